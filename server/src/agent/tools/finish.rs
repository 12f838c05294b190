//! `finish`: the end of a task, in the model's words.

use schemars::JsonSchema;
use serde::Deserialize;

pub const NAME: &str = "finish";
pub const ABOUT: &str = "Ends the task. Say in a few sentences what was changed and how it was checked, or why it could not be done.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Arguments {
    pub summary: String,
    /// False when the task could not be done.
    #[serde(default = "yes")]
    pub succeeded: bool,
}

fn yes() -> bool {
    true
}
