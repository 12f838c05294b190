//! `git_diff`: what the task changed, or what the user has that is not committed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounded;
use crate::agent::desk::Desk;
use crate::edit::text::{Breaks, Text};

pub(in crate::agent) const NAME: &str = "git_diff";
pub(in crate::agent) const ABOUT: &str = "Shows changes as a unified diff: those of this task, or with uncommitted set, everything in the folder that is not committed.";

/// Lines around a change.
const CONTEXT: u32 = 3;

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
    use imara_diff::{Algorithm, BasicLineDiffPrinter, Diff, InternedInput, UnifiedDiffConfig};
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
        let input = InternedInput::new(&*before, &*after);
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        let mut config = UnifiedDiffConfig::default();
        config.context_len(CONTEXT);
        let printer = BasicLineDiffPrinter(&input.interner);
        text.push_str(&diff.unified_diff(&printer, config, &input).to_string());
    }
    match text.is_empty() {
        true => "this task has changed nothing yet".into(),
        false => bounded(text),
    }
}
