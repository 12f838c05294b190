//! A model server that follows a script and writes down what happens to it.
//!
//! A real program at the wire: HTTP/1.1 and HTTP/2, plain and over TLS, all dialects of
//! completion Pairwright speaks. A test gives it a function from requests to [`Answer`]s and
//! reads the [`Log`]: which connection each request came on, when it arrived, and whether it was
//! answered to the end, reset (with the code of the RST_STREAM) or cut off.
//!
//! It is as strict as the strictest real server: a request that does not stream, or names more
//! than four stop strings, is refused with 400 whatever the script says; so is a conversation in
//! which a tool call has not exactly one result.

mod answer;
mod log;
mod route;
mod serve;
mod tls;
mod turn;

pub use self::answer::{Answer, Ending, Text};
pub use self::log::{Connection, End, Log, Protocol, Seen};
pub use self::route::{Hole, Route};
pub use self::serve::{Listen, ModelServer, Speak};
pub use self::tls::{Issued, issue};
pub use self::turn::{Call, NOW, Turn, broken_prefix};
