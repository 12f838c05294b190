//! The command line: parsed arguments in, text or JSON out.

pub mod apply;
