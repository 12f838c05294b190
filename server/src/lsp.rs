//! lsp
pub mod dispatch;
pub mod framing;
