//! `ask_user`: a question only the user can answer. The task waits.

use schemars::JsonSchema;
use serde::Deserialize;

pub const NAME: &str = "ask_user";
pub const ABOUT: &str =
    "Asks the user something that cannot be found out otherwise. The task waits for the answer.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Arguments {
    pub question: String,
    /// Answers to choose from.
    #[serde(default)]
    pub options: Vec<String>,
}
