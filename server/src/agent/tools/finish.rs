//! `finish`: the end of a task, in the model's words.

use schemars::JsonSchema;
use serde::Deserialize;

pub(in crate::agent) const NAME: &str = "finish";
pub(in crate::agent) const ABOUT: &str = "Ends the task. Say in a few sentences what was changed and how it was checked, or why it could not be done.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    pub(in crate::agent) summary: String,
    /// False when the task could not be done.
    #[serde(default = "yes")]
    pub(in crate::agent) succeeded: bool,
}

fn yes() -> bool {
    true
}
