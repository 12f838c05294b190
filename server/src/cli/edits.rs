//! `pairwright edits`: what was done to the files of a folder, and whether it stands.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::apply::{open, print_json};
use super::style::{self, paint};
use crate::edit::journal::{Entry, Kind, State};
use crate::store::now;

#[derive(Debug, clap::Args)]
pub(super) struct Edits {
    /// Folder the edits were made in
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Edits shown at most, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Edits {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = open(&self.root)?;
        let entries = workspace.history(self.last)?;
        let mut out = anstream::stdout().lock();
        if self.json {
            print_json(&mut out, &entries)?;
            return Ok(ExitCode::SUCCESS);
        }
        for entry in &entries {
            let (state, style) = state_of(entry);
            writeln!(
                out,
                "{}  {:>8}  {}  {}  {}",
                entry.token,
                age(now() - entry.at),
                paint(style, format!("{state:11}")),
                paint(style::FAINT, &entry.author),
                entry.paths.join(", ")
            )?;
        }
        if entries.is_empty() {
            writeln!(out, "no edits were made here")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn state_of(entry: &Entry) -> (&'static str, anstyle::Style) {
    match (entry.state, entry.kind) {
        (State::Undone | State::Begun, _) => ("failed", style::BAD),
        (State::Expired, _) => ("expired", style::FAINT),
        (State::Done, _) if entry.undone_by.is_some() => ("taken back", style::FAINT),
        (State::Done, Kind::Apply) => ("applied", style::GOOD),
        (State::Done, Kind::Reject) => ("rejected", style::WARN),
        (State::Done, Kind::Rollback) => ("rolled back", style::WARN),
    }
}

/// How long ago, in the largest unit that fits.
fn age(milliseconds: i64) -> String {
    let seconds = Duration::from_millis(milliseconds.try_into().unwrap_or_default()).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
