//! End to end: real programs at every wire.

mod model_client;
