//! `pairwright rollback`: take back what a token stands for, and nothing else.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::apply::{open, print_json};
use super::style::{self, paint};
use crate::edit::rollback::Mode;
use crate::edit::worlds::NoDocuments;

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// Token that `apply` or `edits` printed; the last edit that stands when not given
    token: Option<String>,
    /// Folder the edit was made in
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Take back what is not in conflict and leave the rest
    #[arg(long)]
    clean_only: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Rollback {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = open(&self.root)?;
        let token = match self.token {
            Some(token) => token,
            None => match workspace.last()? {
                Some(entry) => entry.token.to_string(),
                None => anyhow::bail!("no edit stands that could be taken back"),
            },
        };
        let mode = match self.clean_only {
            true => Mode::CleanOnly,
            false => Mode::AllOrNothing,
        };
        let outcome = workspace.rollback(&NoDocuments, &token, mode, None)?;
        let mut out = anstream::stdout().lock();
        if self.json {
            print_json(&mut out, &outcome)?;
            return Ok(ExitCode::SUCCESS);
        }
        for path in &outcome.paths {
            writeln!(out, "{path}")?;
        }
        for conflict in &outcome.conflicts {
            let left = format!(
                "{}: line {} was changed since; left as it is",
                conflict.path,
                conflict.lines.start + 1
            );
            writeln!(out, "{}", paint(style::WARN, left))?;
        }
        if let Some(redo) = &outcome.rollback_token {
            let done = paint(style::GOOD, "rolled back");
            writeln!(out, "{done}; do it again with: pairwright rollback {redo}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
