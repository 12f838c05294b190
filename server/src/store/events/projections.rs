//! Tables that follow from events, written with them: what is asked for often, and by SQL.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use super::{
    Event, EventKind, EventLog, Grant, GrantScope, Intake, Lease, Outcome, Spent, TaskState,
};
use crate::store::StoreError;
use crate::store::now;

/// A session, without its events.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: String,
    /// Milliseconds since 1970.
    pub created: i64,
    /// The beginning of what was asked first.
    pub title: String,
    pub model: String,
    pub input: u64,
    pub output: u64,
    pub cached: u64,
    /// In US dollars, as far as it is known.
    pub cost: f64,
    /// The position of the last event.
    pub last: u64,
    /// The state, where the session is a task.
    pub state: Option<TaskState>,
    /// The account it was begun by, and the folder; not known of old ones.
    pub user: Option<String>,
    pub repo: Option<String>,
    /// The sandbox that a task's last command ran in, as its service calls it.
    pub sandbox: Option<String>,
}

/// A task as its events left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub state: TaskState,
    pub why: Option<String>,
    pub intake: Intake,
    pub spent: Spent,
}

/// A tool call and how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub call: String,
    pub tool: String,
    pub arguments: String,
    pub effect: String,
    /// `planned`, `started`, or the outcome.
    pub state: String,
    pub text: Option<String>,
}

/// Characters of a title.
const TITLE: usize = 80;

pub(super) fn project(t: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    let session = &event.session;
    match &event.kind {
        EventKind::Intake(intake) => {
            title(t, session, &intake.prompt)?;
            t.execute(
                "UPDATE sessions SET model = ?2 WHERE id = ?1",
                params![session, intake.model],
            )?;
            t.execute(
                "INSERT INTO task_state (session, state, prompt, mode, intake, request, updated)
                 VALUES (?1, 'planning', ?2, ?3, ?4, ?5, ?6)",
                params![
                    session,
                    intake.prompt,
                    intake.mode,
                    json(intake),
                    intake.request,
                    event.ts
                ],
            )?;
        }
        EventKind::Entry { message } => {
            if let crate::model::Message::User { text } = message {
                title(t, session, text)?;
            }
        }
        EventKind::ToolCall {
            call,
            tool,
            arguments,
            effect,
        } => {
            t.execute(
                "INSERT INTO execution_steps
                    (session, call, seq, tool, arguments, effect, state, planned)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'planned', ?7)",
                params![
                    session,
                    call,
                    event.seq,
                    tool,
                    arguments,
                    name(effect),
                    event.ts
                ],
            )?;
        }
        EventKind::ToolStarted { call, sandbox } => {
            t.execute(
                "UPDATE execution_steps SET state = 'started' WHERE session = ?1 AND call = ?2",
                params![session, call],
            )?;
            if sandbox.is_some() {
                t.execute(
                    "UPDATE task_state SET sandbox = ?2 WHERE session = ?1",
                    params![session, sandbox],
                )?;
            }
        }
        EventKind::ToolResult {
            call,
            outcome,
            text,
            ..
        } => {
            t.execute(
                "UPDATE execution_steps SET state = ?3, text = ?4, ended = ?5
                 WHERE session = ?1 AND call = ?2",
                params![session, call, outcome_name(*outcome), text, event.ts],
            )?;
        }
        EventKind::Approval(approval) => {
            t.execute(
                "INSERT INTO approvals (id, session, call, subject, asked)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    approval.approval,
                    session,
                    approval.call,
                    json(&approval.subject),
                    event.ts
                ],
            )?;
        }
        EventKind::Decided(answer) => {
            t.execute(
                "UPDATE approvals SET decision = ?2, decided = ?3, decided_by = ?4 WHERE id = ?1",
                params![answer.approval, name(&answer.decision), event.ts, answer.by],
            )?;
        }
        EventKind::Grant(grant) => {
            t.execute(
                "INSERT INTO grants (id, session, body, expires) VALUES (?1, ?2, ?3, ?4)",
                params![grant.id, session, json(grant), grant.expires],
            )?;
        }
        EventKind::Revoked { grant } => {
            t.execute(
                "UPDATE grants SET revoked = ?2 WHERE id = ?1",
                params![grant, event.ts],
            )?;
        }
        EventKind::Usage {
            usage,
            model,
            spent,
        } => {
            t.execute(
                "UPDATE sessions SET input = input + ?2, output = output + ?3,
                    cached = cached + ?4, cost = cost + ?5, model = ?6 WHERE id = ?1",
                params![
                    session,
                    usage.input,
                    usage.output,
                    usage.cached,
                    usage.cost.unwrap_or_default(),
                    model
                ],
            )?;
            if let Some(spent) = spent {
                t.execute(
                    "UPDATE task_state SET spent = ?2, updated = ?3 WHERE session = ?1",
                    params![session, json(spent), event.ts],
                )?;
            }
        }
        EventKind::Status { state, why } => {
            t.execute(
                "UPDATE task_state SET state = ?2, why = ?3, updated = ?4 WHERE session = ?1",
                params![session, state.name(), why, event.ts],
            )?;
        }
        EventKind::Question { text, .. } => title(t, session, text)?,
        EventKind::Thought { .. }
        | EventKind::Cited { .. }
        | EventKind::Notice { .. }
        | EventKind::Message { .. }
        | EventKind::Writing { .. }
        | EventKind::ToolOutput { .. }
        | EventKind::Diff { .. }
        | EventKind::Plan { .. }
        | EventKind::Denied(_)
        | EventKind::Compaction { .. }
        | EventKind::Steer { .. }
        | EventKind::Mode { .. }
        | EventKind::Done { .. } => {}
    }
    Ok(())
}

fn title(t: &Transaction<'_>, session: &str, text: &str) -> rusqlite::Result<()> {
    let line = text.lines().find(|l| !l.trim().is_empty());
    let title: String = line
        .unwrap_or_default()
        .trim()
        .chars()
        .take(TITLE)
        .collect();
    t.execute(
        "UPDATE sessions SET title = ?2 WHERE id = ?1 AND title = ''",
        params![session, title],
    )?;
    Ok(())
}

/// The name that serde gives a unit variant.
fn name(value: &impl Serialize) -> String {
    json(value).trim_matches('"').to_owned()
}

fn outcome_name(outcome: Outcome) -> String {
    name(&outcome)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("events have only string keys")
}

fn parsed<T: serde::de::DeserializeOwned>(row: &Row<'_>, idx: usize) -> rusqlite::Result<T> {
    let text: String = row.get(idx)?;
    serde_json::from_str(&text).map_err(|why| {
        rusqlite::Error::FromSqlConversionFailure(idx, rusqlite::types::Type::Text, Box::new(why))
    })
}

impl EventLog {
    /// Lists sessions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn sessions(&self, most: usize) -> Result<Vec<Session>, StoreError> {
        self.store.read(|c| {
            let mut select = c.prepare(&format!("{SESSION} ORDER BY s.id DESC LIMIT ?1"))?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = select.query_map([most], read_session)?;
            rows.collect()
        })
    }

    /// Finds a session.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn session(&self, id: &str) -> Result<Option<Session>, StoreError> {
        self.store.read(|c| {
            c.query_row(&format!("{SESSION} WHERE s.id = ?1"), [id], read_session)
                .optional()
        })
    }

    /// Finds a task.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn task(&self, id: &str) -> Result<Option<Task>, StoreError> {
        self.store.read(|c| {
            let select = "SELECT state, why, intake, spent FROM task_state WHERE session = ?1";
            let read = |row: &Row<'_>| {
                Ok(Task {
                    state: state_of(&row.get::<_, String>(0)?),
                    why: row.get(1)?,
                    intake: parsed(row, 2)?,
                    spent: parsed(row, 3)?,
                })
            };
            c.query_row(select, [id], read).optional()
        })
    }

    /// Finds the task that was started under a client's key.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn task_by_request(&self, request: &str) -> Result<Option<String>, StoreError> {
        self.store.read(|c| {
            let select = "SELECT session FROM task_state WHERE request = ?1";
            c.query_row(select, [request], |row| row.get(0)).optional()
        })
    }

    /// Lists tasks that are not over and that no process works on, newest first: what the user may
    /// want to take up.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Session>, StoreError> {
        self.store.read(|c| {
            let mut select = c.prepare(&format!(
                "{SESSION} WHERE t.state NOT IN ('succeeded', 'failed', 'cancelled')
                 ORDER BY s.id DESC LIMIT 100"
            ))?;
            let rows = select.query_map([], read_session)?;
            let left = rows.filter_map(|row| match row {
                Ok(session) => match Lease::is_free(c, &session.id) {
                    Ok(true) => Some(Ok(session)),
                    Ok(false) => None,
                    Err(why) => Some(Err(why)),
                },
                Err(why) => Some(Err(why)),
            });
            left.collect()
        })
    }

    /// Lists the tool calls of a task in their order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn steps(&self, session: &str) -> Result<Vec<Step>, StoreError> {
        self.store.read(|c| {
            let mut select = c.prepare(
                "SELECT call, tool, arguments, effect, state, text FROM execution_steps
                 WHERE session = ?1 ORDER BY seq",
            )?;
            let rows = select.query_map([session], |row| {
                Ok(Step {
                    call: row.get(0)?,
                    tool: row.get(1)?,
                    arguments: row.get(2)?,
                    effect: row.get(3)?,
                    state: row.get(4)?,
                    text: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Lists permissions that hold now: those of `task`, and those for the folder.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn grants(&self, task: Option<&str>) -> Result<Vec<Grant>, StoreError> {
        let all = self.store.read(|c: &Connection| {
            let mut select = c.prepare(
                "SELECT session, body FROM grants
                 WHERE revoked IS NULL AND (expires IS NULL OR expires > ?1) ORDER BY id",
            )?;
            let rows = select.query_map([now()], |row| {
                Ok((row.get::<_, String>(0)?, parsed::<Grant>(row, 1)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let holds = |(session, grant): &(String, Grant)| match grant.scope {
            GrantScope::Repository => true,
            GrantScope::Task => task.is_none_or(|task| session == task),
            GrantScope::Once => false,
        };
        Ok(all.into_iter().filter(holds).map(|(_, g)| g).collect())
    }

    /// Finds the session that a permission was given in.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn session_of_grant(&self, grant: &str) -> Result<Option<String>, StoreError> {
        self.store.read(|c| {
            let select = "SELECT session FROM grants WHERE id = ?1";
            c.query_row(select, [grant], |row| row.get(0)).optional()
        })
    }
}

const SESSION: &str =
    "SELECT s.id, created, title, model, input, output, cached, cost, last, state,
        user, repo, sandbox
    FROM sessions s LEFT JOIN task_state t ON t.session = s.id";

fn read_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        created: row.get(1)?,
        title: row.get(2)?,
        model: row.get(3)?,
        input: row.get(4)?,
        output: row.get(5)?,
        cached: row.get(6)?,
        cost: row.get(7)?,
        last: row.get(8)?,
        state: row.get::<_, Option<String>>(9)?.map(|s| state_of(&s)),
        user: row.get(10)?,
        repo: row.get(11)?,
        sandbox: row.get(12)?,
    })
}

fn state_of(name: &str) -> TaskState {
    match name {
        "planning" => TaskState::Planning,
        "running" => TaskState::Running,
        "paused" => TaskState::Paused,
        "waiting_approval" => TaskState::WaitingApproval,
        "succeeded" => TaskState::Succeeded,
        "cancelled" => TaskState::Cancelled,
        _ => TaskState::Failed,
    }
}
