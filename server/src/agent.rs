//! Agent tasks.

pub mod governor;
pub mod policy;
