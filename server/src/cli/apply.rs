//! `pairwright apply`: an answer's edits as a preview, or done.

mod batch;
pub(super) mod show;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;

use super::style::{self, paint};
use crate::config::sources::Directories;
use crate::edit::Refusal;
use crate::edit::hunks::{Conflict, Proposal};
use crate::edit::parse::{EditSet, Format, MAX_ANSWER, Parser};
use crate::edit::path::RepoPath;
use crate::edit::plan::Options;
use crate::edit::workspace::{Choice, EditError, Outcome, Workspace};
use crate::edit::worlds::NoDocuments;

/// Who the log says did it.
const AUTHOR: &str = "command line";

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// File with the model's answer; stdin when not given or `-`
    file: Option<PathBuf>,
    /// Folder whose files the answer is about
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// How the answer writes its edits
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// File that edits without a path are for, within the root
    #[arg(long, value_name = "PATH")]
    target: Option<String>,
    /// Do the edits, all or none, and print the token that takes them back
    #[arg(long)]
    write: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Read cases as JSON lines {"id","original","base"?,"target"?,"model_output"} from stdin and
    /// write {"id","outcome","files","error"} for each; no file is touched
    #[arg(long, conflicts_with_all = ["file", "target", "write", "json"])]
    batch: bool,
}

/// What became of an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    files: Vec<show::FileReport>,
    #[serde(flatten)]
    outcome: Option<&'a Outcome>,
    refused: &'a [Refusal],
    conflicts: &'a [Conflict],
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.batch {
            batch::run(io::stdin().lock(), io::stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        let workspace = open(&self.root)?;
        match self.propose(&workspace) {
            Ok(proposal) if self.write => {
                let choice = Choice::Proposal(proposal.id.clone());
                match workspace.accept(&NoDocuments, &choice, None) {
                    Ok(outcome) => self.report(&proposal, Some(&outcome))?,
                    Err(why) => return self.fail(why),
                }
            }
            Ok(proposal) => self.report(&proposal, None)?,
            Err(why) => return self.fail(why),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn propose(&self, workspace: &Workspace) -> Result<Proposal, EditError> {
        let refuse = |why: Refusal| EditError::Refused(vec![why]);
        let edits = self.read().map_err(|why| match why.downcast() {
            Ok(refusal) => refuse(refusal),
            Err(why) => refuse(Refusal::new(crate::edit::Kind::Other, format!("{why:#}"))),
        })?;
        let target = self.target.as_deref().map(RepoPath::parse).transpose();
        let target = target
            .map_err(|why| refuse(Refusal::new(crate::edit::Kind::PathDenied, why.to_string())))?;
        let options = Options { target, base: None };
        match self.write {
            true => workspace.propose(&NoDocuments, &edits, &options, AUTHOR, None),
            false => workspace.preview(&NoDocuments, &edits, &options, AUTHOR, None),
        }
    }

    /// Reads the answer piece by piece, so that one without end is refused and not kept.
    fn read(&self) -> anyhow::Result<EditSet> {
        let mut input: Box<dyn Read> = match &self.file {
            Some(path) if path != Path::new("-") => {
                Box::new(File::open(path).with_context(|| format!("opening {}", path.display()))?)
            }
            _ => Box::new(io::stdin().lock()),
        };
        let mut parser = Parser::new(self.format);
        let mut pending = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut n_bytes = 0;
        loop {
            let n_read = input.read(&mut buffer).context("reading the answer")?;
            n_bytes += n_read;
            pending.extend_from_slice(&buffer[..n_read]);
            let is_end = n_read == 0;
            let valid = match std::str::from_utf8(&pending) {
                Ok(_) => pending.len(),
                // The end of a piece may be the middle of a character.
                Err(why) if why.error_len().is_none() && !is_end => why.valid_up_to(),
                Err(_) => bail!("the answer is not UTF-8"),
            };
            let rest = pending.split_off(valid);
            parser.push(std::str::from_utf8(&pending).expect("because it was checked"));
            pending = rest;
            if is_end || n_bytes > MAX_ANSWER {
                return Ok(parser.finish()?);
            }
        }
    }

    fn report(&self, proposal: &Proposal, outcome: Option<&Outcome>) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        let files: Vec<show::FileReport> = proposal.files.iter().map(show::report).collect();
        if self.json {
            let report = Report {
                files,
                outcome,
                refused: &[],
                conflicts: &[],
            };
            return print_json(&mut out, &report);
        }
        for file in &proposal.files {
            show::diff(&mut out, file)?;
        }
        match outcome.and_then(|o| o.rollback_token.as_ref()) {
            Some(token) => {
                let done = paint(style::GOOD, "applied");
                writeln!(
                    out,
                    "{done}; take it back with: pairwright rollback {token}"
                )?;
            }
            None => writeln!(
                out,
                "{}",
                paint(style::FAINT, "nothing is written yet; add --write to do it")
            )?,
        }
        Ok(())
    }

    fn fail(&self, why: EditError) -> anyhow::Result<ExitCode> {
        if !self.json {
            return Err(why.into());
        }
        let (refused, conflicts) = match &why {
            EditError::Refused(refused) => (&refused[..], &[][..]),
            EditError::Conflicts(conflicts) => (&[][..], &conflicts[..]),
            _ => return Err(why.into()),
        };
        let report = Report {
            files: Vec::new(),
            outcome: None,
            refused,
            conflicts,
        };
        print_json(&mut io::stdout().lock(), &report)?;
        Ok(ExitCode::FAILURE)
    }
}

/// Opens the workspace at `root` with its state where the language server has it.
pub(super) fn open(root: &Path) -> anyhow::Result<Workspace> {
    let state = Directories::find()
        .state
        .context("there is no home directory to keep the journal in; set XDG_STATE_HOME")?;
    Ok(Workspace::open(root, &state)?)
}

pub(super) fn print_json(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    out.write_all(text.as_bytes())?;
    Ok(())
}
