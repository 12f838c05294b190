//! The part of the tour about edits: a model's answer reviewed, applied and taken back, on a copy.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::Scratch;

use crate::cli::apply::show;
use crate::cli::style::{self, paint};
use crate::edit::parse::{Format, parse};
use crate::edit::plan::Options;
use crate::edit::rollback::Mode;
use crate::edit::workspace::{Choice, Workspace};
use crate::edit::worlds::NoDocuments;

/// Name of the copy.
const FILE: &str = "greeting.py";
const BEFORE: &str = "\
class Greeting:
    def __init__(self, name):
        self.name = name

    def text(self):
        return \"Hello \" + self.name
";
/// Written without the indentation that the file has, as models do.
const ANSWER: &str = "\
Here is the change:

greeting.py
<<<<<<< SEARCH
def text(self):
    return \"Hello \" + self.name
=======
def text(self):
    return f\"Hello, {self.name}!\"
>>>>>>> REPLACE
";

/// Shows an edit from the answer to the rollback, with what is on the disk after each step.
pub(super) fn show(out: &mut impl Write) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    let (root, state) = (scratch.0.join("work"), scratch.0.join("state"));
    fs::create_dir_all(&root).context("making a folder to show edits in")?;
    fs::write(root.join(FILE), BEFORE)?;
    let workspace = Workspace::open(&root, &state)?;
    let edits = parse(ANSWER, Format::Auto)?;
    let options = Options::default();
    let proposal = workspace.propose(&NoDocuments, &edits, &options, "tour", None)?;
    for file in &proposal.files {
        show::diff(out, file)?;
    }
    let choice = Choice::Proposal(proposal.id);
    let done = workspace.accept(&NoDocuments, &choice, None)?;
    let token = done.rollback_token.context("the edit changed nothing")?;
    let applied = read(&root)?;
    writeln!(out, "{} as {token}", paint(style::GOOD, "applied"))?;
    fs::write(root.join(FILE), format!("# typed by the user\n{applied}"))?;
    workspace.rollback(&NoDocuments, token.as_str(), Mode::AllOrNothing, None)?;
    let is_kept = read(&root)? == format!("# typed by the user\n{BEFORE}");
    let verdict = match is_kept {
        true => paint(
            style::GOOD,
            "rolled back; the line typed meanwhile is still there",
        ),
        false => paint(style::BAD, "the rollback left other text than expected"),
    };
    writeln!(out, "{verdict}\n")?;
    Ok(())
}

fn read(root: &Path) -> anyhow::Result<String> {
    fs::read_to_string(root.join(FILE)).context("reading the file back")
}
