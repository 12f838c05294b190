//! End to end: real programs at every wire.

// `cfg(test)` always holds here; clippy takes it as the sign of test code.
#[cfg(test)]
mod edits;
#[cfg(test)]
mod model_client;
