//! `pairwright chat`: asks about a repository in the terminal; the answer is shown as it comes.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::apply::show;
use super::index::folder;
use super::style::{self, harmless, paint};
use crate::chat::{Ask, Chat, Reference, Surroundings};
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::edit::workspace::{Choice, Workspace};
use crate::edit::worlds::NoDocuments;
use crate::index::{Indexes, cache_dir};
use crate::models::Models;
use crate::shown::printable;
use crate::store::events::{EventKind, EventLog, Follow, Place};

/// How long the index may take to become current before it is used as it is.
const INDEX_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the input that are read as terminal output.
const MAX_INPUT: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct ChatCommand {
    /// What to ask
    #[arg(required = true, num_args = 1..)]
    question: Vec<String>,
    /// Folder the question is about
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Files to show the model, or lines of them: src/lib.rs, src/lib.rs:10-40
    #[arg(long, value_name = "FILE[:LINES]", num_args = 1..)]
    file: Vec<String>,
    /// Names to show the definitions of
    #[arg(long, value_name = "NAME", num_args = 1..)]
    symbol: Vec<String>,
    /// Show the model the changes that are not committed
    #[arg(long)]
    diff: bool,
    /// Show the model what is on stdin, as output of a terminal
    #[arg(long)]
    stdin: bool,
    /// Go on with a session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Do the edits of the answer, all or none, and print the token that takes them back
    #[arg(long)]
    apply: bool,
    /// Print what happens as JSON, an event a line
    #[arg(long)]
    json: bool,
}

/// How the answer ended.
struct Ended {
    reason: String,
    summary: Option<String>,
    proposal: Option<String>,
}

impl ChatCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = super::runtime()?;
        let done = runtime.block_on(self.ask());
        runtime.shutdown_background();
        done
    }

    async fn ask(self) -> anyhow::Result<ExitCode> {
        let root = folder(&self.root)?;
        let directories = Directories::find();
        let current = Current::load(directories.clone());
        current.set_roots(vec![root.clone()]);
        let settings = current.get().settings.clone();
        let (models, problems) = Models::default().with(&settings);
        for problem in &problems {
            writeln!(anstream::stderr(), "{problem}")?;
        }
        if let Some(model) = &models.chat {
            model.warm();
        }
        let state = directories
            .state
            .as_deref()
            .context("there is no home directory to keep the session in; set XDG_STATE_HOME")?;
        let workspace = Arc::new(Workspace::open(&root, state)?);
        let log = EventLog::new(Arc::clone(workspace.store())).of_folder(workspace.root().path());
        let chat = Chat::new(Arc::clone(&workspace), log);
        let session = match &self.session {
            Some(session) => {
                chat.load(session)?;
                session.clone()
            }
            None => chat.begin(),
        };
        let index = match settings.index.enabled {
            true => Some(settled(&root, &directories).await?),
            false => None,
        };
        let events = chat.log().follow_from_now(&session)?;
        let sent = chat.send(Ask {
            session: session.clone(),
            question: self.question.join(" "),
            references: self.references()?,
            surroundings: Surroundings::default(),
            documents: Arc::new(NoDocuments),
            index,
            model: models.chat.clone(),
            request: None,
        })?;
        let ended = self.follow(events, &chat, &sent.session, sent.turn).await?;
        if let Some(proposal) = &ended.proposal {
            self.review(&workspace, proposal)?;
        }
        if !self.json {
            let on = format!("\nask further with: pairwright chat --session {session} …");
            writeln!(anstream::stderr(), "{}", paint(style::FAINT, on))?;
        }
        match (ended.reason.as_str(), ended.summary) {
            ("failed" | "stopped" | "refused", Some(why)) if !self.json => bail!(why),
            ("failed" | "stopped" | "refused", _) => Ok(ExitCode::FAILURE),
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    fn references(&self) -> anyhow::Result<Vec<Reference>> {
        let mut references: Vec<Reference> = self.file.iter().map(|file| reference(file)).collect();
        let symbol = |name: &String| Reference::Symbol { name: name.clone() };
        references.extend(self.symbol.iter().map(symbol));
        if self.diff {
            references.push(Reference::Diff { text: None });
        }
        if self.stdin {
            let mut bytes = Vec::new();
            let mut input = io::stdin().lock().take(MAX_INPUT);
            input.read_to_end(&mut bytes).context("reading stdin")?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            references.push(Reference::Terminal { text });
        }
        Ok(references)
    }

    /// Shows the events of a turn until it has ended. An interrupt stops it.
    async fn follow(
        &self,
        mut events: Follow,
        chat: &Chat,
        session: &str,
        turn: u32,
    ) -> anyhow::Result<Ended> {
        let mut out = anstream::stdout();
        let mut proposed = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event?,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    chat.cancel(session, Some(turn));
                    continue;
                }
            };
            if event.turn != turn {
                continue;
            }
            if self.json {
                writeln!(out, "{}", serde_json::to_string(&event)?)?;
            } else {
                print(&mut out, &event.kind)?;
            }
            out.flush()?;
            match event.kind {
                EventKind::Diff { proposal, .. } => proposed = proposal,
                EventKind::Done { reason, summary } => {
                    return Ok(Ended {
                        reason,
                        summary,
                        proposal: proposed,
                    });
                }
                _ => {}
            }
        }
    }

    /// Shows the edits of the answer, and does them where that was asked for.
    fn review(&self, workspace: &Workspace, id: &str) -> anyhow::Result<()> {
        let mut out = anstream::stdout();
        let listed = workspace.list();
        if !self.json
            && let Some(proposal) = listed.iter().find(|proposal| proposal.id == id)
        {
            writeln!(out)?;
            for file in &proposal.files {
                show::diff(&mut out, file)?;
            }
        }
        if !self.apply {
            if !self.json {
                let note = "nothing is written; review it in the editor, or add --apply to do it";
                writeln!(out, "{}", paint(style::FAINT, note))?;
            }
            return Ok(());
        }
        let outcome = workspace.accept(&NoDocuments, &Choice::Proposal(id.to_owned()), None)?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
        } else if let Some(token) = &outcome.rollback_token {
            let done = paint(style::GOOD, "applied");
            writeln!(
                out,
                "{done}; take it back with: pairwright rollback {token}"
            )?;
        }
        Ok(())
    }
}

/// Opens the index of a folder and waits until it is current.
async fn settled(root: &Path, directories: &Directories) -> anyhow::Result<Indexes> {
    let index = Indexes::new(&[root.to_owned()], cache_dir(directories)?);
    let settling = index.clone();
    tokio::task::spawn_blocking(move || {
        settling.load();
        settling.settle(Instant::now() + INDEX_PATIENCE);
    })
    .await?;
    Ok(index)
}

/// Reads `path`, `path:10` or `path:10-40`.
fn reference(file: &str) -> Reference {
    let lines = file.rsplit_once(':').and_then(|(path, lines)| {
        let (first, last) = lines.split_once('-').unwrap_or((lines, lines));
        Some((path, first.parse().ok()?, last.parse().ok()?))
    });
    match lines {
        Some((path, first, last)) => Reference::File {
            path: path.to_owned(),
            first_line: Some(first),
            last_line: Some(last),
        },
        None => Reference::File {
            path: file.to_owned(),
            first_line: None,
            last_line: None,
        },
    }
}

fn print(out: &mut impl Write, kind: &EventKind) -> io::Result<()> {
    match kind {
        EventKind::Message { text } => write!(out, "{}", harmless(text)),
        EventKind::Thought { text } => {
            write!(
                anstream::stderr(),
                "{}",
                paint(style::FAINT, harmless(text))
            )
        }
        EventKind::Notice { text } => {
            writeln!(anstream::stderr(), "{}", paint(style::WARN, harmless(text)))
        }
        EventKind::Cited { places } => {
            writeln!(out)?;
            let line = |place: &Place| match place.first_line {
                Some(line) => format!("{}:{line}", printable(&place.path)),
                None => printable(&place.path),
            };
            let places: Vec<String> = places.iter().map(line).collect();
            let named = format!("\nnamed: {}", places.join(", "));
            writeln!(out, "{}", paint(style::FAINT, named))
        }
        EventKind::Done { .. } => writeln!(out),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_are_written_after_a_colon() {
        let file = |path: &str, first_line, last_line| Reference::File {
            path: path.to_owned(),
            first_line,
            last_line,
        };
        assert_eq!(reference("a.rs"), file("a.rs", None, None));
        assert_eq!(reference("a.rs:7"), file("a.rs", Some(7), Some(7)));
        assert_eq!(reference("a.rs:7-9"), file("a.rs", Some(7), Some(9)));
        assert_eq!(reference("a:b.rs"), file("a:b.rs", None, None));
    }
}
