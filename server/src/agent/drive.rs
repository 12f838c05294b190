//! The loop of one task: ask the model, run what it wants, look at what came of it, again.
//!
//! Holds: the model's answer and the calls in it are written down before the first of them runs; a
//! command is written down as started before it starts; a change of the proposal is in the same
//! transaction as its outcome. So whatever moment the process is killed in, what was done is known
//! or said to be unknown. Waiting for the user holds no thread.
//! Not here: tasks as a list (`agent`), what the tools do (`tools`).

mod approve;
mod call;
mod mcp;
mod startup;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::desk::Desk;
use super::governor::{Ceilings, Governor};
use super::proposed::Row;
use super::sandbox::TaskSandbox;
use super::transcript::{self, COMPACT_AT, State, Transcript};
use super::{Attendance, Control, Mode, Setup, last_of, prompt, tool};
use crate::edit::workspace::Choice;
use crate::mcp::Connected;
use crate::model::{Message, Reply, TurnEnd, TurnEvent, TurnRequest, TurnUsage};
use crate::secret::redact;
use crate::store::events::{
    Answer, AppendError, Durability, Event, EventKind, EventLog, Grant, HEARTBEAT, Lease, PlanItem,
    Subject, Target, Task, TaskState,
};

/// Tokens of one answer.
const ANSWER: u32 = 8_192;
/// Pieces of running text are told this often at most.
const COALESCE: Duration = Duration::from_millis(33);
/// Answers without a call before the task is taken as done.
const IDLE_ANSWERS: u32 = 2;
/// Author of the hunks of tasks.
const AUTHOR: &str = "agent";

/// Why the loop ends.
#[derive(Debug)]
enum End {
    Finished {
        summary: String,
        succeeded: bool,
    },
    /// By the user, for good.
    Stopped,
    /// For now.
    Paused(String),
    /// By the governor.
    Halted(String),
    Failed(String),
    /// Another process has the task; nothing may be written.
    Lost,
}

type Flow<T> = Result<T, End>;

pub(super) struct Driver {
    setup: Setup,
    id: String,
    /// What the user wants.
    prompt: String,
    turn: u32,
    mode: Mode,
    lease: Arc<Lease>,
    governor: Governor,
    desk: Desk,
    transcript: Transcript,
    plan: Vec<PlanItem>,
    grants: Vec<Grant>,
    controls: mpsc::Receiver<Control>,
    /// What the user said since the last turn; it is written down already.
    steers: Vec<String>,
    wants_pause: bool,
    sandbox: Option<TaskSandbox>,
    servers: Connected,
    /// The model that answered last, where it is not the first.
    fallback: Option<String>,
    /// Those that were said to answer instead, since the first one did.
    told: HashSet<String>,
    /// Questions that were asked, and their answers, of this run and those before.
    answers: HashMap<String, Option<Answer>>,
    /// Answers that came before their questions were asked by this run.
    early: HashMap<String, Answer>,
    n_idle: u32,
    /// Calls of this run and those before.
    n_calls: usize,
    /// Calls that are not written down as the model made them: a secret was taken out.
    altered: HashSet<String>,
    mark: String,
    is_new: bool,
    /// The model had finished before the process was killed.
    finished: Option<End>,
}

impl Driver {
    pub(super) fn new(
        setup: Setup,
        task: &Task,
        lease: Lease,
        desk: Desk,
        events: &[Event],
        controls: mpsc::Receiver<Control>,
        id: String,
    ) -> Self {
        let mut transcript = Transcript::default();
        let mut answers = HashMap::new();
        let mut n_calls = 0;
        for event in events {
            transcript.push(event);
            match &event.kind {
                EventKind::ToolCall { .. } => n_calls += 1,
                EventKind::Approval(asked) => {
                    answers.entry(asked.approval.clone()).or_default();
                }
                EventKind::Decided(answer) => {
                    answers.insert(answer.approval.clone(), Some(answer.clone()));
                }
                _ => {}
            }
        }
        let plan = last_of(events, |kind| match kind {
            EventKind::Plan { items } => Some(items.clone()),
            _ => None,
        });
        let ceilings: Ceilings = serde_json::from_value(task.intake.limits.clone())
            .unwrap_or_else(|_| Ceilings::of(&desk.policy().limits()));
        let mut governor = Governor::new(ceilings, task.spent);
        for extended in approve::extended(events) {
            governor.extend(extended);
        }
        Self {
            finished: call::finished(events),
            mark: prompt::mark(&id),
            turn: events.last().map_or(1, |e| e.turn),
            prompt: task.intake.prompt.clone(),
            // A mode that is not known any more changes nothing.
            mode: Mode::of_name(&task.intake.mode).unwrap_or(Mode::ReadOnly),
            is_new: transcript.is_empty(),
            lease: Arc::new(lease),
            plan: plan.unwrap_or_default(),
            grants: Vec::new(),
            governor,
            desk,
            transcript,
            controls,
            steers: unsaid(events),
            wants_pause: false,
            sandbox: None,
            servers: Connected::default(),
            fallback: None,
            told: HashSet::new(),
            answers,
            early: HashMap::new(),
            n_idle: 0,
            n_calls,
            altered: HashSet::new(),
            setup,
            id,
        }
    }

    /// Drives the task until it ends here. Returns the state it is left in.
    pub(super) async fn run(mut self) -> TaskState {
        let _alive = self.heartbeat();
        let end = match self.work().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // From here on it takes nothing any more, which is seen by who would say something.
        self.controls.close();
        let end = self.hear_last(end).await;
        let servers = std::mem::take(&mut self.servers);
        let (state, ()) = tokio::join!(self.conclude(end), servers.close());
        if let Some(sandbox) = self.sandbox.take() {
            sandbox.close().await;
        }
        let (lease, log) = (Arc::clone(&self.lease), self.setup.log.clone());
        let released = tokio::task::spawn_blocking(move || lease.release(log.store()));
        if !matches!(released.await, Ok(Ok(_))) {
            tracing::warn!("the lease of a task could not be let go of");
        }
        state
    }

    /// Hears what was said in the moment in which the model finished. That is no end then: taken
    /// up again, the task goes on with it.
    async fn hear_last(&mut self, end: End) -> End {
        if !matches!(end, End::Finished { .. }) {
            return end;
        }
        while let Ok(control) = self.controls.try_recv() {
            if let Err(end) = self.mind(control).await {
                return end;
            }
        }
        match self.steers.is_empty() {
            true => end,
            false => End::Paused("you said something as it ended".into()),
        }
    }

    fn heartbeat(&self) -> AbortOnDropHandle<()> {
        let (lease, log) = (Arc::clone(&self.lease), self.setup.log.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let (lease, log) = (Arc::clone(&lease), log.clone());
                let renewed = tokio::task::spawn_blocking(move || lease.renew(log.store())).await;
                if !matches!(renewed, Ok(Ok(true))) {
                    tracing::warn!("the lease of a task could not be renewed");
                }
            }
        }))
    }

    async fn work(&mut self) -> Flow<std::convert::Infallible> {
        self.governor.run(Instant::now());
        let why = (!self.is_new).then(|| "taken up again".to_owned());
        self.status(TaskState::Running, why).await?;
        let connecting = self.connect_servers();
        if self.is_new {
            let startup = self.startup().await;
            let text = prompt::first_message(&self.prompt, &startup, &self.mark);
            let message = Message::User { text };
            self.record(vec![EventKind::Entry { message }]).await?;
        }
        if let Some(end) = self.finished.take() {
            return Err(end);
        }
        self.take_servers(connecting).await?;
        self.take_up_calls().await?;
        loop {
            self.mind_controls().await?;
            self.say_steers().await?;
            self.check_budget().await?;
            self.compact().await?;
            self.governor.charge_step();
            let reply = self.ask_model().await?;
            self.take_reply(reply).await?;
        }
    }

    /// Asks the model for its next answer.
    async fn ask_model(&mut self) -> Flow<Reply> {
        let request = TurnRequest {
            system: prompt::system(self.mode),
            messages: self.transcript.messages(),
            tools: tool::specs(self.mode, &self.servers),
            max_tokens: ANSWER,
            temperature: None,
        };
        let mut stream = self.setup.model.turn(request);
        let mut reply = Reply::default();
        let mut pieces: Vec<EventKind> = Vec::new();
        let mut told = tokio::time::Instant::now();
        loop {
            let next = tokio::select! {
                event = stream.next() => Next::Event(event),
                control = self.controls.recv(), if !self.controls.is_closed() => Next::Control(control),
                () = tokio::time::sleep_until(told + COALESCE), if !pieces.is_empty() => Next::Tell,
            };
            match next {
                Next::Event(Some(Ok(event))) => {
                    reply.take(&event);
                    match event {
                        TurnEvent::Text(text) => add_piece(&mut pieces, text, Piece::Message),
                        TurnEvent::Thinking(text) => add_piece(&mut pieces, text, Piece::Thought),
                        TurnEvent::Thought(_)
                        | TurnEvent::Call(_)
                        | TurnEvent::Usage(_)
                        | TurnEvent::Retry { .. }
                        | TurnEvent::End(_) => {}
                        TurnEvent::Fallback { why, model, place } => {
                            // Once, not with every turn while it lasts.
                            if self.told.insert(model.clone()) {
                                let text = format!("{why} {model} at {place} answers instead.");
                                pieces.push(EventKind::Notice { text });
                            }
                        }
                    }
                }
                Next::Event(Some(Err(why))) => {
                    self.record_soon(std::mem::take(&mut pieces)).await?;
                    return Err(End::Paused(format!("the model could not be asked: {why}")));
                }
                Next::Event(None) => break,
                Next::Control(control) => match control {
                    // All who could say something are gone; the task goes on.
                    None => self.controls.close(),
                    Some(control) => {
                        self.mind(control).await?;
                        if self.wants_pause {
                            return Err(End::Paused("by the user".into()));
                        }
                    }
                },
                Next::Tell => {
                    self.record_soon(std::mem::take(&mut pieces)).await?;
                    told = tokio::time::Instant::now();
                }
            }
        }
        self.record_soon(pieces).await?;
        if reply.fallback.is_none() {
            self.told.clear();
        }
        self.fallback.clone_from(&reply.fallback);
        Ok(reply)
    }

    /// Writes down what the model answered, and runs the calls in it.
    async fn take_reply(&mut self, mut reply: Reply) -> Flow<()> {
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
            kinds.push(self.nudge("Your answer was empty. Go on with the task, or call finish."));
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
        let nudge = match reply.end {
            Some(TurnEnd::Refused) => return Err(End::Failed("the model declined".into())),
            // What the user said comes next.
            _ if !self.steers.is_empty() => return Ok(()),
            _ if self.n_idle < IDLE_ANSWERS => match reply.end {
                Some(TurnEnd::Length) => {
                    "Your answer was cut off: it was too long. Go on in smaller steps."
                }
                _ => "Call finish if the task is done; go on if it is not.",
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
        let nudge = self.nudge(nudge);
        self.record(vec![nudge]).await
    }

    /// The event that says what the task has taken, with what a turn of the model took.
    fn usage(&self, usage: TurnUsage) -> EventKind {
        EventKind::Usage {
            usage,
            model: match &self.fallback {
                Some(model) => model.clone(),
                None => self.setup.model.endpoint().model.clone(),
            },
            spent: Some(self.governor.spent(Instant::now())),
        }
    }

    fn nudge(&self, text: &str) -> EventKind {
        EventKind::Entry {
            message: Message::User {
                text: text.to_owned(),
            },
        }
    }

    /// Takes in what users did while something else was done.
    async fn mind_controls(&mut self) -> Flow<()> {
        while let Ok(control) = self.controls.try_recv() {
            self.mind(control).await?;
        }
        match self.wants_pause {
            true => Err(End::Paused("by the user".into())),
            false => Ok(()),
        }
    }

    async fn mind(&mut self, control: Control) -> Flow<()> {
        match control {
            Control::Stop => return Err(End::Stopped),
            Control::Pause => self.wants_pause = true,
            Control::Steer(text) => self.hear(text).await?,
            // To a question of before a crash, perhaps, which is asked again soon.
            Control::Answer(answer) => self.keep_early(answer),
        }
        Ok(())
    }

    /// Waits for `work` and hears the user meanwhile. A pause waits for it; a stop does not, and
    /// drops it.
    async fn hearing<T>(&mut self, work: impl Future<Output = T>) -> Flow<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let control = tokio::select! {
                done = &mut work => return Ok(done),
                control = self.controls.recv(), if !self.controls.is_closed() => control,
            };
            match control {
                // All who could say something are gone; the task goes on.
                None => self.controls.close(),
                Some(control) => self.mind(control).await?,
            }
        }
    }

    /// Keeps what the user says until the model's next turn, whatever happens before.
    async fn hear(&mut self, text: String) -> Flow<()> {
        self.turn += 1;
        self.record(vec![EventKind::Steer { text: text.clone() }])
            .await?;
        self.steers.push(text);
        Ok(())
    }

    async fn say_steers(&mut self) -> Flow<()> {
        if !self.steers.is_empty() {
            self.n_idle = 0;
        }
        let said = std::mem::take(&mut self.steers).into_iter();
        let said = said.map(|text| EventKind::Entry {
            message: Message::User { text },
        });
        self.record(said.collect()).await
    }

    /// Makes the conversation shorter if it has become long. No tool runs meanwhile.
    async fn compact(&mut self) -> Flow<()> {
        let window = u64::from(self.setup.model.context());
        let most = COMPACT_AT.min(window / 2).max(1_000);
        if self.transcript.tokens() <= most {
            return Ok(());
        }
        let files = self.desk.proposed().summary();
        let state = State {
            plan: &self.plan,
            files: &files,
        };
        match self.transcript.compaction(most / 4, state) {
            Some(kind) => self.record(vec![kind]).await,
            None => Ok(()),
        }
    }

    async fn status(&mut self, state: TaskState, why: Option<String>) -> Flow<()> {
        self.record(vec![EventKind::Status { state, why }]).await
    }

    /// Writes events down and waits for the disk.
    async fn record(&mut self, kinds: Vec<EventKind>) -> Flow<()> {
        self.record_with(kinds, Vec::new(), Durability::Synced)
            .await
    }

    async fn record_soon(&mut self, kinds: Vec<EventKind>) -> Flow<()> {
        self.record_with(kinds, Vec::new(), Durability::Soon).await
    }

    async fn record_with(
        &mut self,
        kinds: Vec<EventKind>,
        rows: Vec<Row>,
        durability: Durability,
    ) -> Flow<()> {
        if kinds.is_empty() {
            return Ok(());
        }
        let (log, id): (EventLog, String) = (self.setup.log.clone(), self.id.clone());
        let (lease, turn) = (Arc::clone(&self.lease), self.turn);
        let written = tokio::task::spawn_blocking(move || {
            let target = Target {
                session: &id,
                turn,
                lease: Some(&lease),
            };
            log.append_with(target, kinds, durability, &|t| {
                rows.iter().try_for_each(|row| row.write(t, &id))
            })
        });
        match written.await {
            Ok(Ok(events)) => {
                events.iter().for_each(|event| self.transcript.push(event));
                Ok(())
            }
            Ok(Err(AppendError::LostLease)) => Err(End::Lost),
            Ok(Err(why)) => Err(End::Failed(format!("nothing can be written down: {why}"))),
            Err(why) => Err(End::Failed(why.to_string())),
        }
    }

    /// Presents what was changed and writes down how the task ended.
    async fn conclude(&mut self, end: End) -> TaskState {
        let (state, why, summary) = match end {
            End::Finished { summary, succeeded } => {
                let state = match succeeded {
                    true => TaskState::Succeeded,
                    false => TaskState::Failed,
                };
                (state, None, Some(summary))
            }
            End::Stopped => (TaskState::Cancelled, Some("by the user".to_owned()), None),
            End::Paused(why) => (TaskState::Paused, Some(why), None),
            End::Halted(why) | End::Failed(why) => (TaskState::Failed, Some(why), None),
            End::Lost => {
                tracing::warn!(task = %self.id, "another process has taken over the task");
                return TaskState::Paused;
            }
        };
        self.governor.wait(Instant::now());
        let mut kinds = Vec::new();
        let (mut state, mut why) = (state, why);
        if state.is_over() {
            match self.present(state).await {
                Ok(presented) => kinds.extend(presented),
                Err(cause) => {
                    // Resuming it presents them again.
                    state = TaskState::Paused;
                    why = Some(format!("its hunks cannot be presented: {cause}"));
                }
            }
        }
        if state == TaskState::Paused {
            kinds.push(self.usage(TurnUsage::default()));
        }
        kinds.push(EventKind::Status {
            state,
            why: why.clone(),
        });
        if state.is_over() {
            kinds.push(EventKind::Done {
                reason: why.unwrap_or_else(|| state.name().to_owned()),
                summary,
            });
        }
        match self.record(kinds).await {
            Ok(()) => state,
            Err(why) => {
                tracing::error!(task = %self.id, "the end of a task cannot be written down: {why:?}");
                TaskState::Paused
            }
        }
    }

    /// Makes the changes hunks that can be decided; in the mode `auto` of a task that succeeded,
    /// accepts them. Doing it twice does it once.
    async fn present(&mut self, state: TaskState) -> Result<Vec<EventKind>, String> {
        let Some(plan) = self.desk.proposed().plan() else {
            return Ok(Vec::new());
        };
        let files = self.desk.proposed().summary();
        let desk = self.desk.clone();
        let id = self.id.clone();
        let accepts = self.mode == Mode::Auto && state == TaskState::Succeeded;
        let presented = tokio::task::spawn_blocking(move || {
            let proposal = format!("p_{id}");
            let documents = &**desk.documents();
            desk.workspace()
                .propose_plan(plan, &proposal, AUTHOR, Some(&id))
                .map_err(|why| why.to_string())?;
            let (mut token, mut notice) = (None, None);
            if accepts {
                let choice = Choice::Proposal(proposal.clone());
                match desk.workspace().accept(documents, &choice, Some(&id)) {
                    Ok(outcome) => token = outcome.rollback_token.map(|t| t.to_string()),
                    // They stay to be decided by hand.
                    Err(why) => {
                        notice = Some(EventKind::Notice {
                            text: format!(
                                "The hunks were not applied: {why}. Decide them in the editor, or with: pairwright task --review {id}"
                            ),
                        });
                    }
                }
            }
            Ok::<_, String>((proposal, token, notice))
        });
        let (proposal, rollback_token, notice) =
            presented.await.map_err(|why| why.to_string())??;
        let diff = EventKind::Diff {
            files,
            proposal: Some(proposal),
            rollback_token,
        };
        Ok(std::iter::once(diff).chain(notice).collect())
    }

    fn is_attended(&self) -> bool {
        self.setup.attendance == Attendance::Attended
    }

    /// Asks for more when a ceiling is reached, and warns before.
    async fn check_budget(&mut self) -> Flow<()> {
        while let Some(ceiling) = self.governor.reached(Instant::now()) {
            let what = ceiling.in_words();
            let prefix = format!("{}.budget.", self.id);
            let is_decided = |(id, answer): &(&String, &Option<Answer>)| {
                id.starts_with(&prefix) && answer.is_some()
            };
            let n_decided = self.answers.iter().filter(is_decided).count();
            let asked = approve::Asked {
                id: format!("{prefix}{n_decided}"),
                call: None,
                subject: Subject::Budget { what: what.into() },
                reason: format!("the task reached {what}"),
                remembered: None,
            };
            match self.approve(asked).await?.decision {
                crate::store::events::Decision::Yes => self.governor.extend(ceiling),
                crate::store::events::Decision::No if self.is_attended() => {
                    return Err(End::Halted(format!("it reached {what}")));
                }
                crate::store::events::Decision::No => {
                    return Err(End::Paused(format!("it reached {what}")));
                }
            }
        }
        Ok(())
    }
}

/// Runs what may wait for the disk on a thread that may.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Flow<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| End::Failed(why.to_string()))
}

/// What the user said that the model was not told, from the events of a task.
fn unsaid(events: &[Event]) -> Vec<String> {
    let mut unsaid: Vec<String> = Vec::new();
    for event in events {
        match &event.kind {
            EventKind::Steer { text } => unsaid.push(text.clone()),
            EventKind::Entry {
                message: Message::User { text },
            } => unsaid.retain(|said| said != text),
            _ => {}
        }
    }
    unsaid
}

enum Next {
    Event(Option<Result<TurnEvent, crate::model::ModelError>>),
    Control(Option<Control>),
    Tell,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Message,
    Thought,
}

/// Adds a piece of running text to those that wait to be told.
fn add_piece(pieces: &mut Vec<EventKind>, text: String, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (Some(EventKind::Message { text: last }), Piece::Message)
        | (Some(EventKind::Thought { text: last }), Piece::Thought) => last.push_str(&text),
        (_, Piece::Message) => pieces.push(EventKind::Message { text }),
        (_, Piece::Thought) => pieces.push(EventKind::Thought { text }),
    }
}
