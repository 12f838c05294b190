//! One turn of the model: asked for, told as it comes, written down.

use std::time::Instant;

use super::{Control, Driver, End, Flow, call, transcript};
use crate::agent::prompt;
use crate::agent::writing::Writing;
use crate::model::{Message, ModelError, Reply, TurnEnd, TurnEvent, TurnRequest, TurnUsage};
use crate::secret::redact;
use crate::store::events::{Event, EventKind, Pace};

/// Tokens of one answer.
const ANSWER: u32 = 8_192;
/// Answers without a call before the task is taken as done.
const IDLE_ANSWERS: u32 = 2;

impl Driver {
    /// Asks the model for its next answer.
    pub(super) async fn ask_model(&mut self) -> Flow<Reply> {
        let request = TurnRequest {
            system: prompt::system(self.mode),
            messages: self.transcript.messages(),
            tools: self.tools().specs(),
            max_tokens: ANSWER,
            temperature: None,
        };
        let mut stream = self.setup.model.turn(request);
        let mut reply = Reply::default();
        let mut pace = Pace::default();
        let mut writing = Writing::default();
        loop {
            let next = tokio::select! {
                event = stream.next() => Next::Event(event),
                control = self.controls.recv(), if !self.controls.is_closed() => Next::Control(control),
                () = pace.wait() => Next::Tell,
                () = writing.is_due() => Next::Write,
            };
            match next {
                Next::Event(Some(Ok(event))) => {
                    reply.take(&event);
                    match event {
                        TurnEvent::Text(text) => pace.text(&text),
                        TurnEvent::Thinking(text) => pace.thought(&text),
                        TurnEvent::Calling { nth, name, piece } => {
                            writing.take(nth, &name, &piece);
                        }
                        TurnEvent::Thought(_)
                        | TurnEvent::Call(_)
                        | TurnEvent::Usage(_)
                        | TurnEvent::Retry { .. }
                        | TurnEvent::End(_) => {}
                        TurnEvent::Fallback { why, model, place } => {
                            // Once, not with every turn while it lasts.
                            if self.told.insert(model.clone()) {
                                pace.notice(format!("{why} {model} at {place} answers instead."));
                            }
                        }
                    }
                }
                Next::Event(Some(Err(why))) => {
                    self.record_soon(pace.finish()).await?;
                    return Err(End::Paused(format!("the model could not be asked: {why}")));
                }
                Next::Event(None) => break,
                Next::Control(control) => match control {
                    // All who could say something are gone; the task goes on.
                    None => self.controls.close(),
                    Some(control) => {
                        self.mind(control).await?;
                        self.check_pause()?;
                    }
                },
                Next::Tell => {
                    self.record_soon(pace.take()).await?;
                }
                Next::Write => {
                    let n_calls = self.n_calls;
                    if let Some(kind) = writing.tell(|nth| call::id_of(n_calls + nth)) {
                        let kinds = pace.finish().into_iter().chain([kind]);
                        self.record_soon(kinds.collect()).await?;
                    }
                }
            }
        }
        self.record_soon(pace.finish()).await?;
        if reply.fallback.is_none() {
            self.told.clear();
        }
        self.fallback.clone_from(&reply.fallback);
        Ok(reply)
    }

    /// Writes down what the model answered, and runs the calls in it.
    pub(super) async fn take_reply(&mut self, mut reply: Reply) -> Flow<()> {
        for call in &mut reply.calls {
            // A server may use one id twice, or one that is meant to be taken for another's.
            self.n_calls += 1;
            call.id = call::id_of(self.n_calls);
            if redact(&call.arguments) != call.arguments {
                self.altered.insert(call.id.clone());
            }
        }
        // A server that does not tell is charged what can be told.
        let usage = reply.usage.unwrap_or_else(|| TurnUsage {
            input: self.transcript.tokens(),
            output: transcript::tokens_of(&reply.message()),
            ..TurnUsage::default()
        });
        self.governor.charge_turn(&usage);
        let mut kinds = vec![self.usage(usage)];
        if reply.calls.is_empty() && reply.text.trim().is_empty() {
            kinds.push(nudge(prompt::EMPTY));
            self.n_idle += 1;
            self.record(kinds).await?;
        } else {
            kinds.push(EventKind::Entry {
                message: reply.message(),
            });
            kinds.extend(reply.calls.iter().map(|c| self.planned(c)));
            self.record(kinds).await?;
            if reply.calls.is_empty() {
                self.n_idle += 1;
            } else {
                self.n_idle = 0;
                for call in self.transcript.open_calls() {
                    self.step(&call).await?;
                }
                return Ok(());
            }
        }
        let said = match reply.end {
            Some(TurnEnd::Refused) => return Err(End::Failed("the model declined".into())),
            // What the user said comes next.
            _ if !self.steers.is_empty() => return Ok(()),
            _ if self.n_idle < IDLE_ANSWERS => match reply.end {
                Some(TurnEnd::Length) => prompt::CUT_OFF,
                _ => prompt::GO_ON,
            },
            Some(TurnEnd::Stop) if !reply.text.trim().is_empty() => {
                return Err(End::Finished {
                    summary: reply.text,
                    succeeded: true,
                });
            }
            Some(TurnEnd::Length) => {
                return Err(End::Failed("the model's answers were cut off".into()));
            }
            Some(TurnEnd::Stop | TurnEnd::ToolCalls) | None => {
                return Err(End::Failed("the model said nothing".into()));
            }
        };
        self.record(vec![nudge(said)]).await
    }

    /// The event that says what the task has taken, with what a turn of the model took.
    pub(super) fn usage(&self, usage: TurnUsage) -> EventKind {
        EventKind::Usage {
            usage,
            model: match &self.fallback {
                Some(model) => model.clone(),
                None => self.setup.model.endpoint().model.clone(),
            },
            spent: Some(self.governor.spent(Instant::now())),
        }
    }
}

pub(super) fn nudge(text: &str) -> EventKind {
    EventKind::Entry {
        message: Message::User {
            text: text.to_owned(),
        },
    }
}

/// Answers without a call that were given since the last one with calls or the last word of the
/// user, from the events of a task.
pub(super) fn idle(events: &[Event]) -> u32 {
    events.iter().fold(0, |n, event| match &event.kind {
        EventKind::Entry { message } => match message {
            Message::Assistant { calls, .. } if calls.is_empty() => n + 1,
            Message::User { text } if text == prompt::EMPTY => n + 1,
            Message::User { text } if prompt::is_ours(text) => n,
            Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => 0,
        },
        _ => n,
    })
}

enum Next {
    Event(Option<Result<TurnEvent, ModelError>>),
    Control(Option<Control>),
    Tell,
    Write,
}
