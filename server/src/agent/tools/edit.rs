//! `edit`: changes to files, into the task's own proposal.
//!
//! Holds: a file that may not be read is not compared with anything: what fits it, and what is said
//! of what does not, would tell what is in it.

use std::cell::OnceCell;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::desk::Desk;
use crate::agent::policy::{Access, Ruling, Verdict};
use crate::agent::proposed::{Row, View};
use crate::edit::parse::{EditSet, Format, Parser};
use crate::edit::path::RepoPath;
use crate::edit::plan::{Options, Plan, plan};
use crate::edit::tree::{Entry, Tree};
use crate::edit::{Kind, Refusal};

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

/// Why nothing is changed.
pub(in crate::agent) enum Refused {
    /// In words for the model.
    Said(String),
    /// A file may not be read.
    Denied(Box<Verdict>),
}

/// The files as the task has them, of which those that may not be read are refused.
struct Readable<'d> {
    desk: &'d Desk,
    view: View<'d>,
    /// The judgement of the first that was.
    denied: OnceCell<Verdict>,
}

/// Works out what the call would change, without changing it.
pub(in crate::agent) fn prepare(
    desk: &Desk,
    arguments: &Arguments,
    text: &str,
) -> Result<Plan, Refused> {
    let parsed = match (&arguments.patch, &arguments.path) {
        (Some(patch), _) => parse(Format::Auto, patch),
        (None, Some(_)) => parse(Format::ToolCall, text),
        (None, None) => return Err(Refused::Said("give `path` or `patch`".into())),
    };
    let edits = parsed.map_err(|why| Refused::Said(why.to_string()))?;
    let mut files = Readable {
        desk,
        view: desk.view(),
        denied: OnceCell::new(),
    };
    plan(&edits, &files, &Options::default()).map_err(|refused| match files.denied.take() {
        Some(verdict) => Refused::Denied(Box::new(verdict)),
        None => {
            let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
            Refused::Said(format!("nothing was changed:\n{}", lines.join("\n")))
        }
    })
}

impl Tree for Readable<'_> {
    fn read(&self, path: &RepoPath) -> Result<Option<Entry>, Refusal> {
        let verdict = self.desk.judge(Access::Read, path, &[]);
        match (verdict.ruling, self.view.read(path)?) {
            (Ruling::Ask | Ruling::Deny, Some(Entry::File { .. })) => {
                let refusal = Refusal::new(Kind::PathDenied, "may not be read");
                // It is the first of them that is told.
                let _ = self.denied.set(verdict);
                Err(refusal.in_file(path.as_str()))
            }
            (_, found) => Ok(found),
        }
    }

    fn ending_with(&self, tail: &RepoPath) -> Vec<RepoPath> {
        let mut found = self.view.ending_with(tail);
        found.retain(|path| self.desk.may_read(path).is_ok());
        found
    }

    fn relative<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.view.relative(path)
    }
}

fn parse(format: Format, text: &str) -> Result<EditSet, Refusal> {
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
