//! `pairwright tour`: the server at work on real code, driven over LSP as an editor drives it.

mod edits;
mod places;
mod retrieval;
mod script;
mod task;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::style::{self, harmless, paint};
use crate::driver::{Answer, Client};
use crate::session::document::uri_of;
use crate::session::language;
use crate::shown::printable;
use places::Place;

/// Places that are asked about, and of those shown.
const ASKED: usize = 60;
const SHOWN: usize = 6;
/// How long the engine is given to learn.
const LEARN: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub(super) struct Tour {
    /// Folder with code to show it on
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Tour {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = self
            .folder
            .canonicalize()
            .with_context(|| format!("{} cannot be read", self.folder.display()))?;
        let places = places::pick(&root, ASKED);
        if places.is_empty() {
            bail!(
                "there is no code in {} to show anything on; name another folder",
                root.display()
            );
        }
        let mut out = anstream::stdout().lock();
        writeln!(
            out,
            "{} of {}\n",
            paint(style::TITLE, "A tour"),
            root.display()
        )?;
        let mut guide = Guide {
            client: Client::start(this_server()?)?,
            out,
            root: root.clone(),
            version: 1,
        };
        guide.start()?;
        let best = guide.ghost_text(&places)?;
        if let Some(best) = best {
            guide.type_through(&best)?;
        }
        guide.cancel(&places[0])?;
        guide.title("An edit, reviewed and taken back")?;
        edits::show(&mut guide.out)?;
        let mut out = guide.finish()?;
        // The server has gone, so the index it built is free.
        writeln!(out, "{}", paint(style::TITLE, "Search and map"))?;
        retrieval::show(&mut out, &root, &places)?;
        writeln!(
            out,
            "{} {}",
            paint(style::TITLE, "Chat and a task"),
            faint("the model is a script within this program; all else is as with yours")
        )?;
        task::show(&mut out)?;
        writeln!(
            out,
            "In your editor: see README.md. Problems: {}.",
            paint(style::TITLE, "pairwright doctor")
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A folder that is removed when it goes out of scope.
struct Scratch(PathBuf);

impl Scratch {
    /// Names a folder that is not there yet.
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("pairwright-{}", uuid::Uuid::now_v7())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Guide<W> {
    client: Client,
    out: W,
    root: PathBuf,
    /// Version of the document that was changed last.
    version: i32,
}

/// A suggestion and the place it is for.
struct Suggestion<'a> {
    place: &'a Place,
    text: String,
    took: Duration,
}

impl Suggestion<'_> {
    /// Whether it is just what the author wrote.
    fn is_exact(&self) -> bool {
        self.text.trim_end() == self.place.rest.trim_end()
    }

    fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { place, text, took } = self;
        let exact = self.is_exact();
        let mark = if exact {
            paint(style::GOOD, "✓")
        } else {
            paint(style::WARN, "·")
        };
        let path = printable(&place.path.to_string_lossy());
        let at = format!("{path}:{}", place.line + 1);
        writeln!(out, "\n  {mark} {} {}", faint(at), faint(ms(*took)))?;
        writeln!(out, "    {}", with_ghost(&place.before, text))?;
        if !exact {
            let wrote = harmless(place.rest.trim_end());
            writeln!(out, "    {}", faint(format!("its author wrote: {wrote}")))?;
        }
        Ok(())
    }
}

/// A line as far as it is typed, and what is suggested for the rest of it.
fn with_ghost(before: &str, text: &str) -> String {
    let ghost = paint(style::GHOST, harmless(text));
    format!("{}{ghost}", harmless(before.trim_start()))
}

impl<W: Write> Guide<W> {
    fn start(&mut self) -> anyhow::Result<()> {
        let Answer { result, took } = self.client.initialize(&self.root)?;
        result.map_err(|why| anyhow::anyhow!("the server refused: {}", why.message))?;
        self.title("Start")?;
        writeln!(self.out, "  initialize answered in {}", ms(took))?;
        let began = Instant::now();
        let status =
            self.client
                .wait_for("didChangeStatus", |s| s["busy"] == false, began + LEARN)?;
        writeln!(
            self.out,
            "  learnt this folder in {} {}",
            ms(began.elapsed()),
            faint("(in the background; it answers meanwhile)")
        )?;
        writeln!(
            self.out,
            "  status: {}\n",
            harmless(status["message"].as_str().unwrap_or_default())
        )?;
        Ok(())
    }

    /// Asks at every place and shows the best answers; returns the longest right one.
    fn ghost_text<'p>(&mut self, places: &'p [Place]) -> anyhow::Result<Option<Suggestion<'p>>> {
        self.title("Ghost text")?;
        writeln!(
            self.out,
            "  {}",
            faint(
                "the rest of a line is taken away and asked for; the file itself is not among what was learnt"
            )
        )?;
        let mut times = Vec::new();
        let mut spoken: Vec<Suggestion<'p>> = Vec::new();
        for place in places {
            self.open(place, &place.buffer())?;
            let Answer { result, took } = self.complete(place, &place.before)?;
            self.close(place)?;
            times.push(took);
            let answer = result.as_ref().ok();
            if let Some(text) = answer.and_then(|r| suggested(r, &place.before)) {
                spoken.push(Suggestion { place, text, took });
            }
        }
        let n_exact = spoken.iter().filter(|s| s.is_exact()).count();
        spoken.sort_by_key(|s| std::cmp::Reverse((s.is_exact(), s.text.len())));
        for suggestion in spoken.iter().take(SHOWN) {
            suggestion.show(&mut self.out)?;
        }
        times.sort();
        let (n, n_spoke) = (places.len(), spoken.len());
        writeln!(
            self.out,
            "\n  asked at {n} places: spoke at {n_spoke}, {n_exact} of them just as the author wrote it {}",
            faint("(shown: the longest, right ones first)")
        )?;
        writeln!(
            self.out,
            "  median {}, slowest {}\n",
            ms(times[n / 2]),
            ms(times[n - 1])
        )?;
        Ok(spoken.into_iter().next().filter(Suggestion::is_exact))
    }

    /// Types the beginning of a suggestion: the rest of it stays, without being asked for again.
    fn type_through(&mut self, suggestion: &Suggestion) -> anyhow::Result<()> {
        let Suggestion { place, text, .. } = suggestion;
        self.title("Typing along")?;
        self.open(place, &place.buffer())?;
        self.complete(place, &place.before)?;
        let mut typed = place.before.clone();
        for c in text.chars().take(4) {
            let character = utf16(&typed);
            let at = json!({ "line": place.line, "character": character });
            typed.push(c);
            self.version += 1;
            let change = json!({ "range": { "start": at, "end": at }, "text": c.to_string() });
            let document = json!({ "uri": self.uri(&place.path), "version": self.version });
            let params = json!({ "textDocument": document, "contentChanges": [change] });
            self.client.notify("textDocument/didChange", &params)?;
            let Answer { result, took } = self.complete(place, &typed)?;
            let rest = result
                .as_ref()
                .ok()
                .and_then(|r| suggested(r, &typed))
                .unwrap_or_default();
            writeln!(
                self.out,
                "    {} {}",
                with_ghost(&typed, &rest),
                faint(ms(took))
            )?;
        }
        self.close(place)?;
        writeln!(self.out)?;
        Ok(())
    }

    /// Asks and takes it back at once: every request is answered, also then.
    fn cancel(&mut self, place: &Place) -> anyhow::Result<()> {
        self.title("Taking it back")?;
        self.open(place, &place.buffer())?;
        let params = self.params(place, &place.before);
        let id = self.client.ask("textDocument/inlineCompletion", &params)?;
        self.client
            .notify("$/cancelRequest", &json!({ "id": id }))?;
        let Answer { result, took } = self.client.answer(id)?;
        let how = result.err().map_or_else(
            || "it was answered before the cancel arrived".into(),
            |why| why.message,
        );
        writeln!(
            self.out,
            "  a request and its cancel: answered in {} ({})\n",
            ms(took),
            harmless(&how.to_lowercase())
        )?;
        self.close(place)?;
        Ok(())
    }

    /// Shows the status and ends the server.
    fn finish(mut self) -> anyhow::Result<W> {
        self.title("Status")?;
        let status = self
            .client
            .request("pairwright/status/get", &Value::Null)?
            .result;
        let metrics = self
            .client
            .request("pairwright/metrics/get", &Value::Null)?
            .result;
        if let Ok(status) = status {
            writeln!(
                self.out,
                "  {}",
                harmless(status["message"].as_str().unwrap_or_default())
            )?;
        }
        if let Ok(m) = metrics {
            writeln!(
                self.out,
                "  {} requests: {} answered by the model, {} by the embedded engine, {} continued while typing, {} cancelled",
                m["requested"],
                m["answeredByModel"],
                m["answeredByLocal"],
                m["reused"],
                m["cancelled"]
            )?;
        }
        writeln!(self.out)?;
        self.client.leave()?;
        Ok(self.out)
    }

    fn title(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{}", paint(style::TITLE, text))
    }

    fn uri(&self, path: &Path) -> String {
        uri_of(&self.root.join(path))
    }

    fn open(&mut self, place: &Place, text: &str) -> anyhow::Result<()> {
        self.version = 1;
        let document = json!({
            "uri": self.uri(&place.path),
            "languageId": language::of_path(&place.path),
            "version": self.version,
            "text": text,
        });
        self.client
            .notify("textDocument/didOpen", &json!({ "textDocument": document }))
    }

    fn close(&mut self, place: &Place) -> anyhow::Result<()> {
        let document = json!({ "uri": self.uri(&place.path) });
        self.client.notify(
            "textDocument/didClose",
            &json!({ "textDocument": document }),
        )
    }

    fn complete(&mut self, place: &Place, before: &str) -> anyhow::Result<Answer> {
        let params = self.params(place, before);
        self.client
            .request("textDocument/inlineCompletion", &params)
    }

    fn params(&self, place: &Place, before: &str) -> Value {
        json!({
            "textDocument": { "uri": self.uri(&place.path) },
            "position": { "line": place.line, "character": utf16(before) },
            "context": { "triggerKind": 2 },
        })
    }
}

/// The command that starts the server that this program is.
fn this_server() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    #[expect(
        clippy::disallowed_methods,
        reason = "starts this very program as the server"
    )]
    let mut command = Command::new(program);
    command.arg("lsp");
    Ok(command)
}

/// Takes the first suggestion out of an answer, without what stands before the cursor already.
fn suggested(answer: &Value, before: &str) -> Option<String> {
    let text = answer["items"][0]["insertText"].as_str()?;
    text.strip_prefix(before).map(str::to_owned)
}

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

fn faint(text: impl std::fmt::Display) -> String {
    paint(style::FAINT, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold_and_models_say_is_shown_and_not_obeyed() {
        let place = Place {
            path: PathBuf::from("a\u{1b}]52;.py"),
            text: String::new(),
            line: 0,
            before: "    x = \u{1b}]52;c;eA==\u{7}".to_owned(),
            rest: "f(\u{1b}[2J)".to_owned(),
        };
        let suggestion = Suggestion {
            place: &place,
            text: "g(\u{9b}2J)".to_owned(),
            took: Duration::ZERO,
        };
        let mut out = Vec::new();
        suggestion.show(&mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        for obeyed in ["\u{1b}]52;", "\u{7}", "\u{1b}[2J", "\u{9b}"] {
            assert!(!shown.contains(obeyed), "{shown:?}");
        }
        for part in [".py:1", "]52;c;eA==", "\\u{1b}[2J", "\\u{9b}2J"] {
            assert!(shown.contains(part), "{shown:?}");
        }
    }
}
