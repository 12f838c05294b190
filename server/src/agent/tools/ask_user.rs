//! `ask_user`: a question only the user can answer. The task waits.

use schemars::JsonSchema;
use serde::Deserialize;

pub(in crate::agent) const NAME: &str = "ask_user";
pub(in crate::agent) const ABOUT: &str =
    "Asks the user something that cannot be found out otherwise. The task waits for the answer.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    pub(in crate::agent) question: String,
    /// Answers to choose from.
    #[serde(default)]
    pub(in crate::agent) options: Vec<String>,
}
