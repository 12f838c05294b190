//! `pairwright apply`: an answer's edits as a preview, or done.

pub mod batch;
