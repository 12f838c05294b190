//! `edit`: changes to files, into the task's own proposal.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::desk::Desk;
use crate::agent::proposed::Row;
use crate::edit::parse::{EditSet, Format, Parser};
use crate::edit::plan::{Options, Plan, plan};

pub const NAME: &str = "edit";
pub(in crate::agent) const ABOUT: &str = "Changes files. Either path with oldString and newString (the old text must be in the file exactly once, unless replaceAll is set), or path with content for a whole new file, or patch with a unified diff, SEARCH/REPLACE blocks, or *** Begin Patch. All edits of a call are done or none. The user reviews every hunk before it reaches their files.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Arguments {
    /// Path below the folder.
    #[serde(default, alias = "file_path")]
    pub(in crate::agent) path: Option<String>,
    /// Text to find.
    #[serde(default, alias = "old_string")]
    pub(in crate::agent) old_string: Option<String>,
    /// Text to put there.
    #[serde(default, alias = "new_string")]
    pub(in crate::agent) new_string: Option<String>,
    #[serde(default, alias = "replace_all")]
    pub(in crate::agent) replace_all: bool,
    /// The whole text of a file.
    #[serde(default)]
    pub(in crate::agent) content: Option<String>,
    /// Edits of several places or files.
    #[serde(default)]
    pub(in crate::agent) patch: Option<String>,
}

/// Works out what the call would change, without changing it.
pub(in crate::agent) fn prepare(
    desk: &Desk,
    arguments: &Arguments,
    text: &str,
) -> Result<Plan, String> {
    let parsed = match (&arguments.patch, &arguments.path) {
        (Some(patch), _) => parse(Format::Auto, patch),
        (None, Some(_)) => parse(Format::ToolCall, text),
        (None, None) => return Err("give `path` or `patch`".into()),
    };
    let edits = parsed.map_err(|why| why.to_string())?;
    plan(&edits, &desk.view(), &Options::default()).map_err(|refused| {
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        format!("nothing was changed:\n{}", lines.join("\n"))
    })
}

fn parse(format: Format, text: &str) -> Result<EditSet, crate::edit::Refusal> {
    let mut parser = Parser::new(format);
    parser.push(text);
    parser.finish()
}

/// Takes the change into the proposal.
pub(in crate::agent) fn run(desk: &mut Desk, plan: Plan) -> Result<(String, Vec<Row>), String> {
    let mut said = String::new();
    for file in &plan.files {
        let n_added: usize = file.changes.iter().map(|c| c.after.len()).sum();
        let n_removed: usize = file.changes.iter().map(|c| c.before.len()).sum();
        let what = match (&file.before, &file.after, &file.moved_from) {
            (_, _, Some(from)) => format!("moved from {from}"),
            (None, _, _) => "created".into(),
            (_, None, _) => "removed".into(),
            _ => "changed".into(),
        };
        said.push_str(&format!("{what} {} (+{n_added} -{n_removed})\n", file.path));
    }
    let rows = desk.take(plan).map_err(|why| why.to_string())?;
    Ok((said, rows))
}
