//! One prompt: read, and answered by chat or by a task.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::Refusal;
use super::session::{Mode, Session};
use super::task::{Begin, newest_unfinished};
use super::{Acp, update};
use crate::chat::{Ask, Reference, Surroundings};
use crate::context::data;
use crate::secret::{self, redact};
use crate::session::document::path_of;
use crate::shown::printable;
use crate::store::events::EventKind;

/// Things that a task is told a prompt points at.
const REFERENCES: usize = 32;
/// Bytes of a text that comes with a prompt, and of all of them, as a task is told.
const TEXT: usize = 16 << 10;
const TEXTS: usize = 48 << 10;

/// What a prompt says, and what it points at.
struct Prompt {
    text: String,
    references: Vec<Reference>,
}

impl Acp {
    /// Answers `session/prompt`.
    pub(super) async fn prompt(
        self: &Arc<Self>,
        session: &Arc<Session>,
        blocks: &Value,
        stop: &CancellationToken,
    ) -> Result<Value, Refusal> {
        let prompt = read(session, blocks)?;
        if stop.is_cancelled() {
            return Ok(json!({ "stopReason": "cancelled" }));
        }
        let text = prompt.text.as_str();
        let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim().to_owned();
        let reason = match (command, session.mode()) {
            ("/resume", _) => {
                let task = match rest.is_empty() {
                    true => newest_unfinished(session).await?,
                    false => rest,
                };
                self.task(session, Begin::Again(task), stop).await?
            }
            ("/stop", _) => {
                let task = match rest.is_empty() {
                    true => newest_unfinished(session).await?,
                    false => rest,
                };
                self.stop_left(session, task).await?;
                "end_turn"
            }
            ("/rollback", _) => {
                self.take_back(session, rest).await?;
                "end_turn"
            }
            ("/search", _) if !rest.is_empty() => {
                let prompt = Prompt {
                    text: rest,
                    ..prompt
                };
                self.chat(session, prompt, None, stop).await?
            }
            (_, Mode::Ask) => {
                let model = self.models.chat.clone();
                self.chat(session, prompt, model, stop).await?
            }
            (_, Mode::Task(mode)) => {
                let begin = Begin::New {
                    besides: besides(&session.id, &prompt.references),
                    prompt: prompt.text,
                    mode,
                };
                self.task(session, begin, stop).await?
            }
        };
        Ok(json!({ "stopReason": reason }))
    }

    async fn chat(
        self: &Arc<Self>,
        session: &Arc<Session>,
        prompt: Prompt,
        model: Option<crate::model::TurnModel>,
        stop: &CancellationToken,
    ) -> Result<&'static str, Refusal> {
        let folder = &session.folder;
        let (log, id) = (folder.log.clone(), session.id.clone());
        let reading = tokio::task::spawn_blocking(move || log.follow_from_now(&id));
        let read = reading.await.map_err(|_| Refusal::bug())?;
        let mut events = read.map_err(Refusal::failed)?;
        let asked = model.clone();
        let sent = folder.chat.send(Ask {
            session: session.id.clone(),
            question: prompt.text,
            references: prompt.references,
            surroundings: Surroundings::default(),
            documents: session.documents.clone(),
            index: folder.index.clone(),
            model,
            request: None,
        });
        let turn = sent.map_err(Refusal::failed)?.turn;
        if stop.is_cancelled() {
            folder.chat.cancel(&session.id, Some(turn));
        }
        loop {
            let event = events.next().await.map_err(Refusal::failed)?;
            if event.turn != turn {
                continue;
            }
            if let Some(update) = update::of(&event.kind) {
                self.connection.update(&session.id, &update);
            }
            match &event.kind {
                EventKind::Usage { usage, model, .. } => {
                    self.tell_usage(session, usage, model, asked.as_ref());
                }
                EventKind::Diff {
                    proposal: Some(proposal),
                    ..
                } => self.offer(session, proposal).await?,
                EventKind::Done { reason, summary } => {
                    return match reason.as_str() {
                        "length" => Ok("max_tokens"),
                        "refused" => Ok("refusal"),
                        "stopped" => Ok("cancelled"),
                        "failed" => Err(Refusal::failed(summary.as_deref().unwrap_or("failed"))),
                        _ => Ok("end_turn"),
                    };
                }
                _ => {}
            }
        }
    }
}

/// Reads the blocks of a prompt: what is said, and what it points at, by name in what is said.
fn read(session: &Session, blocks: &Value) -> Result<Prompt, Refusal> {
    let blocks = blocks
        .as_array()
        .ok_or_else(|| Refusal::params("`prompt` is no list"))?;
    let mut prompt = Prompt {
        text: String::new(),
        references: Vec::new(),
    };
    for block in blocks {
        let uri = block["uri"].as_str().or(block["resource"]["uri"].as_str());
        match (block["type"].as_str(), uri) {
            (Some("text"), _) => prompt
                .text
                .push_str(block["text"].as_str().unwrap_or_default()),
            (Some("resource_link" | "resource"), Some(uri)) => {
                let (plain, fragment) = uri.split_once('#').unwrap_or((uri, ""));
                let inside = path_of(plain).and_then(|path| {
                    let path = path.canonicalize().unwrap_or(path);
                    let rest = path.strip_prefix(&session.folder.root).ok()?;
                    Some(rest.to_str()?.to_owned())
                });
                let path = inside.unwrap_or_else(|| uri.to_owned());
                prompt.text.push_str(&path);
                let (first_line, last_line) = lines_of(fragment);
                // What the client sends along is newer than what is on the disk.
                prompt
                    .references
                    .push(match block["resource"]["text"].as_str() {
                        Some(text) => Reference::Text {
                            path,
                            text: text.to_owned(),
                        },
                        None => Reference::File {
                            path,
                            first_line,
                            last_line,
                        },
                    });
            }
            (kind, _) => {
                let kind = kind.unwrap_or_default();
                return Err(Refusal::params(format!("a prompt cannot hold {kind:?}")));
            }
        }
    }
    Ok(prompt)
}

/// What a prompt points at, as a task is told: places, which it reads itself, and texts as the client
/// has them, between marks.
fn besides(session: &str, references: &[Reference]) -> String {
    let mark = data::mark(session);
    let mut told = String::new();
    let mut left = TEXTS;
    for reference in references.iter().take(REFERENCES) {
        told.push_str(&match reference {
            Reference::File {
                path,
                first_line: Some(first),
                last_line,
            } => {
                let last = last_line.unwrap_or(*first);
                format!("\n- {}, lines {first}-{last}", printable(path))
            }
            Reference::Text { path, text } if !secret::is_path(path) => {
                // More than is shown, so that no secret is known by its first half.
                let text = redact(&text[..text.floor_char_boundary(4 * TEXT)]);
                let text = &text[..text.floor_char_boundary(TEXT.min(left))];
                left -= text.len();
                let text = data::between(&mark, text);
                format!("\n- {}, as it is in the editor:\n{text}", printable(path))
            }
            Reference::File { path, .. } | Reference::Text { path, .. } => {
                format!("\n- {}", printable(path))
            }
            // No prompt here points at anything else.
            Reference::Symbol { .. }
            | Reference::Diff { .. }
            | Reference::Terminal { .. }
            | Reference::Diagnostics { .. } => continue,
        });
    }
    match told.is_empty() {
        true => told,
        false => format!("\n\nThe user points at:{told}\n"),
    }
}

/// The first and last line, from 1, that the fragment of an address names: `L10`, `L10:20`,
/// `L10-L20`.
fn lines_of(fragment: &str) -> (Option<u32>, Option<u32>) {
    let Some(lines) = fragment.strip_prefix('L') else {
        return (None, None);
    };
    let (first, last) = lines.split_once([':', '-']).unwrap_or((lines, lines));
    let number = |text: &str| text.trim_start_matches('L').parse().ok();
    (number(first), number(last))
}
