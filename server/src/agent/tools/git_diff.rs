//! `git_diff`: what the task changed, or what the user has that is not committed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounded;
use crate::agent::desk::Desk;
use crate::edit::diff::unified;
use crate::edit::text::{Breaks, Text};

pub(in crate::agent) const NAME: &str = "git_diff";
pub(in crate::agent) const ABOUT: &str = "Shows changes as a unified diff: those of this task, or with uncommitted set, everything in the folder that is not committed.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    #[serde(default)]
    pub(in crate::agent) uncommitted: bool,
}

/// The command that shows what is not committed. Runs in the sandbox: a repository's settings can
/// name programs.
pub(in crate::agent) const COMMAND: &str =
    "git -c safe.directory='*' --no-pager diff --no-color --no-ext-diff HEAD";

pub(in crate::agent) fn of_task(desk: &Desk) -> String {
    let mut text = String::new();
    for (path, file) in desk.proposed().files() {
        let decode = |bytes: &Option<Vec<u8>>| {
            Text::decode(bytes.clone().unwrap_or_default(), Breaks::Lf)
                .map(|t| t.content().to_owned())
        };
        let name = |there: bool, side: &str| match there {
            true => format!("{side}/{path}"),
            false => "/dev/null".to_owned(),
        };
        text.push_str(&format!(
            "--- {}\n+++ {}\n",
            name(file.base.is_some(), "a"),
            name(file.now.is_some(), "b")
        ));
        let (Ok(before), Ok(after)) = (decode(&file.base), decode(&file.now)) else {
            text.push_str("[not text]\n");
            continue;
        };
        text.push_str(&unified(&before, &after));
    }
    match text.is_empty() {
        true => "this task has changed nothing yet".into(),
        false => bounded(text),
    }
}
