//! One turn: the question is grounded and kept, the answer is streamed into the log, and what
//! follows from it is offered.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::conversation::{Conversation, estimate};
use super::grounding::{Grounding, Sources, gather};
use super::{Ask, Inner, cite, outbound, prompt, search};
use crate::context::data;
use crate::edit::hunks::{Proposal, What};
use crate::edit::parse::{EditSet, Format, parse};
use crate::edit::plan::Options;
use crate::edit::{Kind, Refusal};
use crate::model::{
    Message, ModelError, Reply, TurnEnd, TurnEvent, TurnModel, TurnRequest, TurnStream,
};
use crate::secret::redact;
use crate::store::events::{DiffFile, Durability, EventKind, Pace};

/// Most tokens of an answer, and least room for one.
const LONGEST_ANSWER: u32 = 8192;
const SHORTEST_ANSWER: u32 = 512;

/// Who proposes the edits of an answer.
const AUTHOR: &str = "chat";

/// How a turn ended.
enum End {
    Answered(TurnEnd),
    Failed(Box<ModelError>),
    Stopped,
}

impl Inner {
    /// Answers a question. Returns the event that ends the turn, which is not written yet.
    ///
    /// # Errors
    /// When the log cannot be written; everything else is an event.
    pub(super) async fn answer(
        self: &Arc<Self>,
        ask: Ask,
        conversation: &mut Conversation,
        stop: &CancellationToken,
    ) -> anyhow::Result<EventKind> {
        let ask = Arc::new(ask);
        let turn = conversation.turn;
        let session = ask.session.as_str();
        let question = redact(&ask.question).into_owned();
        let budget = match &ask.model {
            Some(model) => usize::try_from(model.context()).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let grounding = async {
            let mut grounding = self.ground(&ask, budget).await?;
            let left_out = match &ask.model {
                Some(model) => {
                    outbound::leave_out(model, &question, &mut grounding, conversation).await
                }
                None => Ok(()),
            };
            anyhow::Ok(left_out.map(|()| grounding))
        };
        let grounding = tokio::select! {
            () = stop.cancelled() => Err(done("stopped", None)),
            grounding = grounding => grounding?.map_err(|why| done("failed", Some(why))),
        };
        let grounding = match grounding {
            Ok(grounding) => grounding,
            Err(end) => {
                let asked = EventKind::Question {
                    text: question,
                    shown: Vec::new(),
                    task: None,
                };
                self.append(session, turn, vec![asked], Durability::Synced)
                    .await?;
                return Ok(end);
            }
        };
        match &ask.model {
            Some(model) => {
                self.ask_model(&ask, model, question, grounding, conversation, stop)
                    .await
            }
            None => {
                self.answer_by_search(&ask, question, grounding, conversation)
                    .await
            }
        }
    }

    async fn ground(self: &Arc<Self>, ask: &Arc<Ask>, budget: usize) -> anyhow::Result<Grounding> {
        let (inner, ask) = (Arc::clone(self), Arc::clone(ask));
        let gathering = tokio::task::spawn_blocking(move || {
            let sources = Sources {
                question: &ask.question,
                references: &ask.references,
                surroundings: &ask.surroundings,
                documents: &*ask.documents,
                index: ask.index.as_ref(),
                workspace: &inner.workspace,
            };
            gather(&sources, budget)
        });
        Ok(gathering.await?)
    }

    async fn answer_by_search(
        self: &Arc<Self>,
        ask: &Ask,
        question: String,
        grounding: Grounding,
        conversation: &mut Conversation,
    ) -> anyhow::Result<EventKind> {
        let found = search::answer(&grounding, ask.index.is_some(), &self.root);
        let said = Message::User {
            text: question.clone(),
        };
        let answered = Message::Assistant {
            text: found.text.clone(),
            thinking: Vec::new(),
            calls: Vec::new(),
        };
        let mut kinds = vec![EventKind::Question {
            text: question,
            shown: Vec::new(),
            task: None,
        }];
        let still_indexing =
            search::still_indexing(&grounding).filter(|_| !found.places.is_empty());
        kinds.extend(notices(grounding.notices));
        kinds.extend(notices(still_indexing.into_iter().collect()));
        kinds.push(EventKind::Message { text: found.text });
        if !found.places.is_empty() {
            kinds.push(EventKind::Cited {
                places: found.places,
            });
        }
        kinds.push(EventKind::Entry {
            message: said.clone(),
        });
        kinds.push(EventKind::Entry {
            message: answered.clone(),
        });
        let turn = conversation.turn;
        let last = self
            .append(&ask.session, turn, kinds, Durability::Synced)
            .await?;
        conversation.push(last - 1, said);
        conversation.push(last, answered);
        Ok(done("search", None))
    }

    async fn ask_model(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        model: &TurnModel,
        question: String,
        grounding: Grounding,
        conversation: &mut Conversation,
        stop: &CancellationToken,
    ) -> anyhow::Result<EventKind> {
        let (session, turn) = (ask.session.as_str(), conversation.turn);
        let mark = data::mark(session);
        let asked = Message::User {
            text: prompt::message(&question, &grounding.pieces, &mark),
        };
        let context = model.context();
        let max_tokens = (context / 4).clamp(SHORTEST_ANSWER, LONGEST_ANSWER);
        let taken = prompt::SYSTEM.len() / 3 + estimate(&asked);
        let room = usize::try_from(context.saturating_sub(max_tokens)).unwrap_or(usize::MAX);
        let left_out = conversation.fit(room.saturating_sub(taken));
        let mut stream = model.turn(TurnRequest {
            system: prompt::SYSTEM.to_owned(),
            messages: conversation.with(&asked),
            tools: Vec::new(),
            max_tokens,
            temperature: None,
        });
        // Written while the model reads.
        let mut kinds: Vec<EventKind> = left_out.into_iter().collect();
        kinds.push(EventKind::Question {
            text: question,
            shown: grounding.pieces.into_iter().map(|p| p.shown).collect(),
            task: None,
        });
        kinds.extend(notices(grounding.notices));
        kinds.push(EventKind::Entry {
            message: asked.clone(),
        });
        let last = self
            .append(session, turn, kinds, Durability::Synced)
            .await?;
        conversation.push(last, asked);

        let (mut reply, mut pace) = (Reply::default(), Pace::default());
        let end = self
            .pass_on(session, turn, &mut stream, &mut reply, &mut pace, stop)
            .await?;
        // At the server the request is over before anything is written.
        drop(stream);
        let mut kinds = pace.finish();
        let text = redact(&reply.text).into_owned();
        let mut said = None;
        if !text.trim().is_empty() {
            let message = Message::Assistant {
                text: text.clone(),
                thinking: reply.thinking,
                calls: Vec::new(),
            };
            // Where it stands among the events written below.
            said = Some((kinds.len() as u64, message.clone()));
            kinds.push(EventKind::Entry { message });
        }
        if let Some(usage) = reply.usage {
            kinds.push(EventKind::Usage {
                usage,
                model: match reply.fallback {
                    Some(model) => model,
                    None => model.endpoint().model.clone(),
                },
                spent: None,
            });
        }
        if matches!(end, End::Answered(_)) {
            kinds.extend(self.offer(ask, turn, text).await?);
        }
        let n_written = kinds.len() as u64;
        let last = self
            .append(session, turn, kinds, Durability::Synced)
            .await?;
        if let Some((at, message)) = said {
            conversation.push(last + 1 - n_written + at, message);
        }
        Ok(match &end {
            End::Answered(TurnEnd::Stop | TurnEnd::ToolCalls) => done("answered", None),
            End::Answered(TurnEnd::Length) => done(
                "length",
                Some("The answer is longer than the limit.".into()),
            ),
            End::Answered(TurnEnd::Refused) => done("refused", None),
            End::Failed(why) => done("failed", Some(why.user_error().to_string())),
            End::Stopped => done("stopped", None),
        })
    }

    /// Passes on what the model says until it ends or is stopped.
    async fn pass_on(
        self: &Arc<Self>,
        session: &str,
        turn: u32,
        stream: &mut TurnStream,
        reply: &mut Reply,
        pace: &mut Pace,
        stop: &CancellationToken,
    ) -> anyhow::Result<End> {
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                () = pace.wait() => {
                    let kinds = pace.take();
                    self.append(session, turn, kinds, Durability::Soon).await?;
                    continue;
                }
                next = stream.next() => next,
            };
            let event = match next {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Ok(End::Failed(Box::new(error))),
                None => return Ok(End::Answered(reply.end.unwrap_or(TurnEnd::Stop))),
            };
            reply.take(&event);
            match event {
                TurnEvent::Text(text) => pace.text(&text),
                TurnEvent::Thinking(text) => pace.thought(&text),
                TurnEvent::Retry { why, after } => {
                    let seconds = after.as_secs().max(1);
                    pace.notice(format!("{why} Asked again in {seconds} s."));
                }
                TurnEvent::Fallback { why, model, place } => {
                    pace.notice(format!("{why} {model} at {place} answers instead."));
                }
                TurnEvent::End(end) => return Ok(End::Answered(end)),
                TurnEvent::Thought(_)
                | TurnEvent::Calling { .. }
                | TurnEvent::Call(_)
                | TurnEvent::Usage(_) => {}
            }
        }
    }

    /// Offers what an answer names and proposes: places to open, hunks to decide.
    async fn offer(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        turn: u32,
        text: String,
    ) -> anyhow::Result<Vec<EventKind>> {
        let (inner, ask) = (Arc::clone(self), Arc::clone(ask));
        let offering = tokio::task::spawn_blocking(move || {
            let mut kinds = Vec::new();
            let places = cite::places(&text, &inner.root);
            if !places.is_empty() {
                kinds.push(EventKind::Cited { places });
            }
            let step = format!("{}/{turn}", ask.session);
            match edits_in(&text) {
                None => {}
                Some(Err(why)) => kinds.push(not_offered(&why)),
                Some(Ok(edits)) => {
                    let proposed = inner.workspace.propose(
                        &*ask.documents,
                        &edits,
                        &Options::default(),
                        AUTHOR,
                        Some(&step),
                    );
                    kinds.push(match proposed {
                        Ok(proposal) => offered(&proposal),
                        Err(why) => not_offered(&why),
                    });
                }
            }
            kinds
        });
        Ok(offering.await?)
    }
}

/// Reads the edits of an answer; `None` when it has none. A whole file in a fence is an example.
fn edits_in(answer: &str) -> Option<Result<EditSet, Refusal>> {
    // Each format refuses what does not end as it does, so it is only asked where it begins.
    let begins = |mark: &str| answer.lines().any(|line| line.starts_with(mark));
    let format = if begins("<<<<<<<") {
        Format::SearchReplace
    } else if begins("*** Begin Patch") {
        Format::ApplyPatch
    } else if begins("--- ") && begins("+++ ") {
        Format::UnifiedDiff
    } else {
        return None;
    };
    match parse(answer, format) {
        Err(why) if why.kind == Kind::NoEdits => None,
        read => Some(read),
    }
}

fn offered(proposal: &Proposal) -> EventKind {
    let file = |file: &crate::edit::hunks::ProposedFile| {
        let lines = |bytes: Option<&crate::edit::hunks::Bytes>| {
            bytes.map_or(0, |b| b.0.split_inclusive(|&byte| byte == b'\n').count())
        };
        let (mut added, mut removed) = (0, 0);
        for hunk in &file.hunks {
            match &hunk.what {
                What::Lines(change) => {
                    added += change.after.len();
                    removed += change.before.len();
                }
                What::Create => added += lines(file.after.as_ref()),
                What::Delete => removed += lines(file.before.as_ref()),
                What::Move | What::Mode => {}
            }
        }
        DiffFile {
            path: file.path.as_str().to_owned(),
            added,
            removed,
            patch: None,
        }
    };
    EventKind::Diff {
        files: proposal.files.iter().map(file).collect(),
        proposal: Some(proposal.id.clone()),
        rollback_token: None,
    }
}

fn not_offered(why: &dyn std::fmt::Display) -> EventKind {
    EventKind::Notice {
        text: format!("The edits of this answer cannot be offered as hunks: {why}."),
    }
}

fn notices(texts: Vec<String>) -> impl Iterator<Item = EventKind> {
    texts.into_iter().map(|text| EventKind::Notice { text })
}

pub(super) fn done(reason: &str, summary: Option<String>) -> EventKind {
    EventKind::Done {
        reason: reason.to_owned(),
        summary,
    }
}
