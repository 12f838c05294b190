//! The loop of one task: ask the model, run what it wants, look at what came of it, again.
//!
//! Holds: the model's answer and the calls in it are written down before the first of them runs; a
//! command is written down as started before it starts; a change of the proposal is in the same
//! transaction as its outcome. So whatever moment the process is killed in, what was done is known
//! or said to be unknown. Waiting for the user holds no thread.
//! Not here: tasks as a list (`agent`), what the tools do (`tools`).

mod approve;
mod call;
mod conclude;
pub(super) mod left;
mod mcp;
mod restricted;
mod startup;
mod turn;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use indexer::Tokens;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::restricted::Restricted;
use super::desk::Desk;
use super::governor::{Ceiling, Ceilings, Governor, Limits};
use super::proposed::Row;
use super::sandbox::TaskSandbox;
use super::tool::Tools;
use super::tools::tests;
use super::transcript::{self, COMPACT_AT, State, Transcript};
use super::{Attendance, Control, Mode, Setup, last_of, prompt};
use crate::mcp::Connected;
use crate::model::Message;
use crate::store::events::{
    Answer, AppendError, Decision, Durability, Event, EventKind, EventLog, Grant, HEARTBEAT, Lease,
    Outcome, PlanItem, Subject, Target, Task, TaskState,
};

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

/// How a run of the tests ended, and for which state of the files.
#[derive(Debug)]
struct Tested {
    passed: bool,
    state: u64,
    /// What it ran with besides.
    others: Option<String>,
}

impl Tested {
    /// `None` for events that are no end of such a run.
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::ToolResult {
                tool,
                outcome: outcome @ (Outcome::Done | Outcome::Failed),
                tier: Some(_),
                footprint: Some(footprint),
                others,
                ..
            } if tool == tests::NAME => Some(Self {
                passed: *outcome == Outcome::Done,
                state: footprint.state,
                others: others.clone(),
            }),
            _ => None,
        }
    }
}

pub(super) struct Driver {
    setup: Setup,
    id: String,
    /// What the user wants.
    prompt: String,
    turn: u32,
    mode: Mode,
    restricted: Restricted,
    lease: Arc<Lease>,
    governor: Governor,
    desk: Desk,
    transcript: Transcript,
    plan: Vec<PlanItem>,
    grants: Vec<Grant>,
    controls: mpsc::Receiver<Control>,
    /// What the user said since the last turn; it is written down already.
    steers: Vec<String>,
    /// Why it is to pause when what is being done is done.
    wants_pause: Option<&'static str>,
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
    /// How tests ended that ran last.
    tested: Option<Tested>,
    /// Calls of this run and those before.
    n_calls: usize,
    /// Calls that are not written down as the model made them: a secret was taken out.
    altered: HashSet<String>,
    mark: String,
    is_new: bool,
    /// The model had finished, or the governor halted it, before the process was killed.
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
        let mark = prompt::mark(&id);
        let mut transcript = Transcript::new(mark.clone());
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
            .unwrap_or_else(|_| desk.policy().ceilings(&Limits::default()));
        let (governor, halted) = Governor::of_record(ceilings, events);
        // A mode that is not known any more changes nothing.
        let mode = Mode::of_name(&task.intake.mode).unwrap_or(Mode::ReadOnly);
        let (mode, _) = desk.policy().at_most(mode);
        Self {
            finished: call::finished(events).or(halted.map(End::Halted)),
            mark,
            turn: events.last().map_or(1, |e| e.turn),
            prompt: task.intake.prompt.clone(),
            restricted: Restricted::of_record(events),
            mode,
            is_new: transcript.is_empty(),
            lease: Arc::new(lease),
            plan: plan.unwrap_or_default(),
            grants: Vec::new(),
            governor,
            desk,
            transcript,
            controls,
            steers: unsaid(events),
            wants_pause: None,
            sandbox: None,
            servers: Connected::default(),
            fallback: None,
            told: HashSet::new(),
            answers,
            early: HashMap::new(),
            n_idle: turn::idle(events),
            tested: events.iter().rev().find_map(|e| Tested::of(&e.kind)),
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
            let startup = self.startup().await?;
            let text = prompt::first_message(&self.prompt, &startup, &self.mark);
            let message = Message::User { text };
            self.record(vec![EventKind::Entry { message }]).await?;
        }
        if let Some(end) = self.finished.take() {
            return Err(end);
        }
        self.take_servers(connecting).await?;
        self.take_up_calls().await?;
        // The process was killed before the model was told what comes next.
        if self.transcript.ends_in_words() && self.steers.is_empty() {
            self.record(vec![turn::nudge(prompt::GO_ON)]).await?;
        }
        loop {
            self.mind_controls().await?;
            self.say_steers().await?;
            self.check_budget(Governor::reached).await?;
            self.compact().await?;
            self.governor.charge_step();
            let reply = self.ask_model().await?;
            self.take_reply(reply).await?;
        }
    }

    /// Takes in what users did while something else was done.
    async fn mind_controls(&mut self) -> Flow<()> {
        while let Ok(control) = self.controls.try_recv() {
            self.mind(control).await?;
        }
        self.check_pause()
    }

    fn check_pause(&self) -> Flow<()> {
        match self.wants_pause {
            Some(why) => Err(End::Paused(why.into())),
            None => Ok(()),
        }
    }

    async fn mind(&mut self, control: Control) -> Flow<()> {
        match control {
            Control::Stop => return Err(End::Stopped),
            Control::Pause => self.wants_pause = Some("by the user"),
            Control::Leave => self.wants_pause = Some("its editor was closed"),
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
        let left = window.saturating_sub(self.fixed_tokens());
        let most = COMPACT_AT.min(left / 2).max(1_000);
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

    /// Tokens of what each request says besides the conversation: instructions and tools.
    fn fixed_tokens(&self) -> u64 {
        let of = |text: &str| u64::from(Tokens::estimate(text).0);
        let tools = self.tools().specs().into_iter();
        let tools = tools.map(|t| of(&t.name) + of(&t.description) + of(&t.schema.to_string()));
        of(&prompt::system(self.mode)) + tools.sum::<u64>()
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
                for event in events {
                    self.transcript.push(&event);
                    self.tested = Tested::of(&event.kind).or(self.tested.take());
                }
                Ok(())
            }
            Ok(Err(AppendError::LostLease)) => Err(End::Lost),
            Ok(Err(why)) => Err(End::Failed(format!("nothing can be written down: {why}"))),
            Err(why) => Err(End::Failed(why.to_string())),
        }
    }

    fn tools(&self) -> Tools<'_> {
        Tools {
            mode: self.mode,
            servers: &self.servers,
            asks_editor: self.setup.editor.is_some(),
        }
    }

    fn is_attended(&self) -> bool {
        self.setup.attendance == Attendance::Attended
    }

    /// Asks for more when a ceiling is reached. Without somebody to ask, the task pauses there.
    async fn check_budget(
        &mut self,
        reached: fn(&Governor, Instant) -> Option<Ceiling>,
    ) -> Flow<()> {
        while let Some(ceiling) = reached(&self.governor, Instant::now()) {
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
            let answer = self.approve(asked).await?;
            match answer.decision {
                Decision::Yes => self.governor.extend(ceiling),
                // Somebody who takes it up is asked again.
                Decision::No if answer.is_of_nobody() => {
                    let why = format!("it reached {what}, and nobody is there to be asked");
                    return Err(End::Paused(why));
                }
                Decision::No => return Err(End::Halted(format!("it reached {what}"))),
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
