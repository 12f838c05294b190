//! `pairwright trust`: which folders may have their settings read and their code run.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::apply::print_json;
use super::style::{self, paint};
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::config::trust::{Standing, Word, Words};
use crate::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct TrustCommand {
    /// Folder to trust, with all below it
    #[arg(value_name = "DIR", default_value = ".", conflicts_with = "list")]
    root: PathBuf,
    /// Take trust in it back
    #[arg(long, conflicts_with = "list")]
    revoke: bool,
    /// List what was said of which folders
    #[arg(long)]
    list: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl TrustCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let current = Current::load(Directories::find());
        if self.list {
            return self.list(&Words::read(current.directories()));
        }
        match self.revoke {
            true => current.revoke(&self.root)?,
            false => current.say_of(&self.root, Word::Trusted)?,
        }
        let root = self.root.canonicalize().context("finding the folder")?;
        let trust = &current.get().trust;
        let standing = trust.of(&root);
        let mut out = anstream::stdout().lock();
        if self.json {
            let told = json!({ "folder": root, "standing": standing });
            print_json(&mut out, &told)?;
        } else {
            let folder = shown(&root);
            match standing {
                Standing::Trusted => writeln!(
                    out,
                    "{} {folder}, with all below it: its settings are read, and tasks may run what \
                     it holds, in a sandbox",
                    paint(style::GOOD, "trusted")
                )?,
                Standing::Refused | Standing::Unknown | Standing::Excluded => writeln!(
                    out,
                    "{} {folder}: its settings are not read, and tasks change and run nothing there",
                    paint(style::WARN, "not trusted")
                )?,
            }
        }
        if trust.is_set() {
            let note = "`workspace.trusted` is set and decides alone; unset it to have this count";
            writeln!(anstream::stderr(), "{}", paint(style::WARN, note))?;
        }
        // Trusted, or no longer trusted, as was asked for.
        let is_done = (standing == Standing::Trusted) != self.revoke;
        Ok(if is_done {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn list(&self, words: &Words) -> anyhow::Result<ExitCode> {
        let mut out = anstream::stdout().lock();
        if self.json {
            print_json(&mut out, words)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut n_folders = 0;
        for (folder, word) in words.folders() {
            let word = match word {
                Word::Trusted => paint(style::GOOD, "trusted    "),
                Word::Refused => paint(style::WARN, "not trusted"),
            };
            writeln!(out, "{word} {}", shown(folder))?;
            n_folders += 1;
        }
        if n_folders == 0 {
            writeln!(out, "nothing was said of any folder")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks the user at the terminal whether to trust a folder; keeps the answer. Asks nothing where
/// that is decided, or nobody sits there.
pub(super) fn ask(current: &Current, root: &Path) -> anyhow::Result<()> {
    let may_ask = matches!(
        current.get().trust.of(root),
        Standing::Unknown | Standing::Refused
    );
    if !may_ask || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let mut err = anstream::stderr();
    let question = format!("Do you trust {}?", shown(root));
    writeln!(
        err,
        "{} A task runs what the folder holds, its tests for example, in a sandbox.",
        paint(style::TITLE, question)
    )?;
    write!(
        err,
        "{} ",
        paint(style::TITLE, "[y]es, once for all, or [n]o")
    )?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let word = match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Word::Trusted,
        _ => Word::Refused,
    };
    Ok(current.say_of(root, word)?)
}

fn shown(folder: &Path) -> String {
    printable(&folder.display().to_string())
}
