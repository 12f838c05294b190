//! `grep`: lines that match a pattern, in the files as the task has them.

use regex::RegexBuilder;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Said, bounded, path, shown_text};
use crate::agent::desk::Desk;

pub(in crate::agent) const NAME: &str = "grep";
pub(in crate::agent) const ABOUT: &str = "Finds lines that match a regular expression (Rust's syntax), with their files and line numbers.";

const MATCHES: usize = 200;
/// Characters shown of a line.
const WIDTH: usize = 240;
/// Memory of a compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Arguments {
    pub(in crate::agent) pattern: String,
    /// File or folder to look in; everything when not given.
    #[serde(default)]
    pub(in crate::agent) path: Option<String>,
    #[serde(default)]
    pub(in crate::agent) ignore_case: bool,
}

pub(in crate::agent) fn run(desk: &Desk, arguments: &Arguments) -> Said {
    let pattern = RegexBuilder::new(&arguments.pattern)
        .case_insensitive(arguments.ignore_case)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|why| format!("the pattern cannot be read: {why}"))?;
    let below = match &arguments.path {
        Some(text) => path(text, desk.root())?,
        None => None,
    };
    let view = desk.view_of_many();
    let mut text = String::new();
    let mut n_matches = 0;
    for file in desk.files(below.as_ref())? {
        let Some(content) = shown_text(desk, &view, &file) else {
            continue;
        };
        for (idx, line) in content.lines().enumerate() {
            if !pattern.is_match(line) {
                continue;
            }
            if n_matches == MATCHES {
                text.push_str("[there are more matches; ask more narrowly]\n");
                return Ok(bounded(text));
            }
            n_matches += 1;
            let shown: String = line.chars().take(WIDTH).collect();
            text.push_str(&format!("{file}:{}: {shown}\n", idx + 1));
        }
    }
    match n_matches {
        0 => Ok("no line matches".into()),
        _ => Ok(bounded(text)),
    }
}
