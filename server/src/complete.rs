//! Ghost text

pub mod surroundings;
pub mod trim;
