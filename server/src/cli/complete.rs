//! `pairwright complete`: ghost text for scripts and evaluation, from the same code that editors
//! are served by.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::style::{self, harmless};
use crate::complete::engines::Engines;
use crate::complete::surroundings::{Surroundings, windows};
use crate::complete::trim::{Extent, Trimmed, insertion, trim};
use crate::complete::{Ask, Completer, Item, Source, Trigger};
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::local;
use crate::session::document::{Document, Position, PositionEncoding, uri_of};
use crate::session::{Session, language};

/// Learning a workspace takes seconds; one that takes longer than this is answered as far as it
/// is learnt.
const LEARN: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(super) struct Complete {
    /// File to complete in
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    file: Option<PathBuf>,
    /// Line of the cursor, from 1; the end of the file when not given
    #[arg(conflicts_with = "batch")]
    line: Option<u32>,
    /// Column of the cursor, from 1; the end of the line when not given
    #[arg(conflicts_with = "batch")]
    column: Option<u32>,
    /// Folder that the embedded engine learns from
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Read JSON lines {"id","path","text","line","character"} from stdin (zero-based, UTF-16) and
    /// write {"id","insertText","source","confidence","speaks","ms"} for each
    #[arg(long)]
    batch: bool,
    /// Files the engine must not learn from, as globs
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    exclude: Vec<String>,
    /// Print one JSON object
    #[arg(long, conflicts_with = "batch")]
    json: bool,
}

/// One position to complete at, as `--batch` reads it.
#[derive(Debug, Deserialize)]
struct Case {
    id: serde_json::Value,
    /// Within the root, or absolute. Need not exist.
    path: PathBuf,
    /// The whole buffer as it stands.
    text: String,
    line: u32,
    character: u32,
}

/// What is said at one position.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    id: serde_json::Value,
    /// The best guess, however unsure; `null` when there is none.
    insert_text: Option<String>,
    source: Option<&'static str>,
    confidence: Option<f32>,
    /// Whether an editor would be shown it.
    speaks: bool,
    ms: f64,
}

impl Complete {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = self
            .root
            .canonicalize()
            .with_context(|| format!("{} cannot be read", self.root.display()))?;
        if !root.is_dir() {
            bail!("{} is not a folder", root.display());
        }
        let runtime = super::runtime()?;
        let _entered = runtime.enter();
        let completer = Helper::start(&root, &self.exclude)?;
        if self.batch {
            runtime.block_on(batch(&completer))?;
        } else if let Some(file) = &self.file {
            let case = self.case(file)?;
            let before = line_before(&case);
            let said = runtime.block_on(completer.complete(case));
            self.print(&said, &before)?;
        }
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }

    fn case(&self, file: &Path) -> anyhow::Result<Case> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let last = text.matches('\n').count().try_into().unwrap_or(u32::MAX);
        let path = std::path::absolute(file)?;
        let line = self.line.map_or(last, |line| line.saturating_sub(1));
        let character = self
            .column
            .map_or(u32::MAX, |column| column.saturating_sub(1));
        Ok(Case {
            id: serde_json::Value::Null,
            path,
            text,
            line,
            character,
        })
    }

    fn print(&self, said: &Said, before: &str) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(said)?)?;
            return Ok(());
        }
        let Some(text) = &said.insert_text else {
            writeln!(out, "nothing to suggest here")?;
            return Ok(());
        };
        let ghost = style::paint(style::GHOST, harmless(text));
        writeln!(out, "{}{ghost}", harmless(before))?;
        let sure = said
            .confidence
            .map_or_else(String::new, |c| format!(", {:.0} % sure", c * 100.0));
        let speaks = if said.speaks {
            ""
        } else {
            "; an editor would not be shown this"
        };
        let source = said.source.unwrap_or_default();
        let note = format!("{source}{sure}, {:.1} ms{speaks}", said.ms);
        writeln!(out, "{}", style::paint(style::FAINT, note))?;
        Ok(())
    }
}

fn line_before(case: &Case) -> String {
    let line = case
        .text
        .split('\n')
        .nth(case.line as usize)
        .unwrap_or_default();
    let units: Vec<u16> = line.encode_utf16().take(case.character as usize).collect();
    String::from_utf16_lossy(&units)
        .trim_end_matches('\r')
        .to_owned()
}

/// Answers each line of stdin with a line on stdout. A line that cannot be read is answered with
/// an error; the next ones are answered all the same.
async fn batch(completer: &Helper) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (n, line) in io::stdin().lock().split(b'\n').enumerate() {
        let line = line.context("stdin cannot be read")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Case>(&line) {
            Ok(case) => serde_json::to_writer(&mut out, &completer.complete(case).await)?,
            Err(why) => {
                let id = serde_json::from_slice::<serde_json::Value>(&line)
                    .ok()
                    .map(|v| v["id"].clone());
                let error = format!("line {} is not a position: {why}", n + 1);
                serde_json::to_writer(&mut out, &serde_json::json!({ "id": id, "error": error }))?;
            }
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// A session without an editor.
struct Helper {
    root: PathBuf,
    session: Arc<Session>,
    completer: Completer,
}

impl Helper {
    fn start(root: &Path, exclude: &[String]) -> anyhow::Result<Self> {
        let settings = Current::load(Directories::find());
        let resolved = settings.get();
        for problem in &resolved.problems {
            writeln!(anstream::stderr(), "settings: {problem}")?;
        }
        let roots = [root.to_owned()];
        let (engines, problems) =
            Engines::default().with(Arc::new(resolved.settings.clone()), &roots, exclude);
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem.into());
        }
        if let Some(local) = &engines.local
            && !local.wait_learnt(Instant::now() + LEARN)
        {
            writeln!(
                anstream::stderr(),
                "still learning {}; answering with what is learnt",
                root.display()
            )?;
        }
        let session = Arc::new(Session::default());
        session.set_roots(roots.to_vec());
        let completer = Completer::new(Arc::clone(&session), engines);
        Ok(Self {
            root: root.to_owned(),
            session,
            completer,
        })
    }

    async fn complete(&self, case: Case) -> Said {
        let path = self.root.join(&case.path);
        let document = Document::new(&uri_of(&path), &language::of_path(&path), 1, &case.text);
        let document = self.session.open(document);
        let at = Position {
            line: case.line,
            column: case.character,
        };
        let offset = document.offset(at, PositionEncoding::Utf16);
        let snapshot = self.session.snapshot();
        let ask = Ask {
            snapshot,
            document: Arc::clone(&document),
            offset,
            trigger: Trigger::Automatic,
            selected: None,
        };
        let asked = Instant::now();
        let mut said = Said {
            id: case.id,
            insert_text: None,
            source: None,
            confidence: None,
            speaks: false,
            ms: 0.0,
        };
        if let Some(item) = self.ask_model(&ask).await {
            said.insert_text = item.insertion(&document, offset).map(str::to_owned);
            said.source = Some(if item.reused {
                "cache"
            } else {
                item.source.name()
            });
            said.speaks = said.insert_text.is_some();
        } else if let Some((text, confidence)) = self.guess(&ask) {
            said.insert_text = Some(text);
            said.source = Some(Source::Local.name());
            said.confidence = Some(confidence);
            said.speaks = confidence >= local::GATE;
        }
        said.ms = asked.elapsed().as_secs_f64() * 1e3;
        self.session.close(&document.uri);
        self.completer.closed(&document);
        said
    }

    /// The model's suggestion, by the whole path that an editor's request takes.
    async fn ask_model(&self, ask: &Ask) -> Option<Item> {
        self.completer.engines().model()?;
        let first = self
            .completer
            .begin(ask.clone())
            .answer()
            .await?
            .into_iter()
            .next();
        first.filter(|item| item.source == Source::Model)
    }

    /// The embedded engine's best guess for the whole line, also where an editor would be shown
    /// only its beginning or nothing.
    fn guess(&self, ask: &Ask) -> Option<(String, f32)> {
        let (before, after) = windows(&ask.document.text, ask.offset);
        let around = Surroundings::new(&before, &after);
        let local::Suggestion {
            text, confidence, ..
        } = self.completer.engines().suggest(ask, &around)?;
        let Trimmed { text, replaces } = trim(&text, Extent::Line, &around)?;
        let text = insertion(&text, replaces, &around)?;
        Some((text.to_owned(), confidence))
    }
}
