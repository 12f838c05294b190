//! `pairwright audit`: what tasks and chats did, from the log, and whether it was
//! changed since by somebody who did not compute its chain anew.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;

use super::apply::{open, print_json};
use super::style::{self, paint};
use super::task::line_of;
use crate::shown::printable;
use crate::store::events::{Event, EventKind, EventLog, Outcome, Session, Verified};

#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Folder that was worked in
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Tell what a session did, or list the sessions
    Show {
        /// The session; the list of all when not given
        session: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check that no event was changed, removed or put in
    Verify {
        /// The session; all when not given
        session: Option<String>,
    },
    /// Print a whole session as one JSON object
    Export { session: String },
}

/// A session with all its events.
#[derive(Debug, Serialize)]
struct Export {
    session: Session,
    /// Whether the chain held when this was written.
    verified: Option<Verified>,
    broken: Option<String>,
    events: Vec<Event>,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = open(&self.root)?;
        let log = EventLog::new(Arc::clone(workspace.store()));
        match self.what {
            What::Show {
                session: None,
                json,
            } => list(&log, json),
            What::Show {
                session: Some(id),
                json: false,
            } => show(&log, &id),
            What::Show {
                session: Some(id),
                json: true,
            }
            | What::Export { session: id } => {
                print_json(&mut std::io::stdout().lock(), &export(&log, &id)?)?;
                Ok(ExitCode::SUCCESS)
            }
            What::Verify { session } => verify(&log, session),
        }
    }
}

fn find(log: &EventLog, id: &str) -> anyhow::Result<Session> {
    log.session(id)?
        .with_context(|| format!("there is no session {id} in this folder"))
}

fn export(log: &EventLog, id: &str) -> anyhow::Result<Export> {
    let session = find(log, id)?;
    let (verified, broken) = match log.verify(id)? {
        Ok(verified) => (Some(verified), None),
        Err(broken) => (None, Some(broken.to_string())),
    };
    Ok(Export {
        session,
        verified,
        broken,
        events: log.read_from(id, 1, usize::MAX)?,
    })
}

fn list(log: &EventLog, json: bool) -> anyhow::Result<ExitCode> {
    let sessions = log.sessions(100)?;
    let mut out = anstream::stdout().lock();
    if json {
        print_json(&mut out, &sessions)?;
        return Ok(ExitCode::SUCCESS);
    }
    for session in sessions {
        let state = session.state.map_or("chat", |s| s.name());
        writeln!(
            out,
            "{}  {state:16}  {}",
            session.id,
            printable(&session.title)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells a session as a story, then what it came to.
fn show(log: &EventLog, id: &str) -> anyhow::Result<ExitCode> {
    let session = find(log, id)?;
    let mut out = anstream::stdout().lock();
    let title = printable(&session.title);
    writeln!(out, "{}", paint(style::TITLE, title))?;
    let events = log.read_from(id, 1, usize::MAX)?;
    for event in &events {
        if let Some(line) = line_of(&event.kind) {
            writeln!(out, "{line}")?;
        }
    }
    let count = |of: &dyn Fn(&EventKind) -> bool| events.iter().filter(|e| of(&e.kind)).count();
    let commands = count(&|k| matches!(k, EventKind::ToolStarted { .. }));
    let denials = count(&|k| matches!(k, EventKind::Denied(_)));
    let failed = count(&|k| {
        matches!(
            k,
            EventKind::ToolResult {
                outcome: Outcome::Failed,
                ..
            }
        )
    });
    writeln!(
        out,
        "{} events, {commands} commands, {denials} denials, {failed} failed calls, {} tokens in ({} cached), {} out, ${:.4}",
        events.len(),
        session.input,
        session.cached,
        session.output,
        session.cost
    )?;
    Ok(ExitCode::SUCCESS)
}

fn verify(log: &EventLog, session: Option<String>) -> anyhow::Result<ExitCode> {
    let ids = match session {
        Some(id) => vec![find(log, &id)?.id],
        None => log
            .sessions(usize::MAX)?
            .into_iter()
            .map(|s| s.id)
            .collect(),
    };
    let mut out = anstream::stdout().lock();
    let mut is_whole = true;
    for id in ids {
        match log.verify(&id)? {
            Ok(verified) => {
                let good = paint(style::GOOD, "whole");
                writeln!(
                    out,
                    "{id}  {good}, {} events, head {}",
                    verified.events, verified.head
                )?;
            }
            Err(broken) => {
                is_whole = false;
                writeln!(out, "{id}  {} {broken}", paint(style::BAD, "broken:"))?;
            }
        }
    }
    Ok(match is_whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
