//! What became of the chats, tasks and edits of a folder, counted from its own database.
//!
//! Holds: it counts what is on record and nothing is sent anywhere.
//! Not here: ghost text (`complete::metrics`), what happened in one session (`pairwright audit`).

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::agent::governor::CIRCLES;
use crate::edit::journal::{self, Token};
use crate::edit::merge::diff;
use crate::edit::tree::{Entry, Tree as _};
use crate::edit::workspace::Workspace;
use crate::edit::worlds::{Documents, Worlds};
use crate::store::{StoreError, now};

/// An edit is kept or not once it is so old: a day, in milliseconds.
const SETTLED: i64 = 24 * 60 * 60 * 1000;
/// Edits whose lines are looked for in the files, newest first.
const MOST_EDITS: usize = 500;

/// What is counted, from `since` (milliseconds since 1970) on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub since: i64,
    /// By mode: `chat`, and those of tasks.
    pub modes: BTreeMap<String, Mode>,
    /// By the model that really answered.
    pub models: BTreeMap<String, Mode>,
    /// From a question in chat to the first of its answer.
    pub answers: Option<Times>,
    pub tasks: Tasks,
    pub edits: Edits,
}

/// Milliseconds that something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    pub n: usize,
    pub p50: u64,
    pub p95: u64,
}

/// What sessions of one mode took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mode {
    pub sessions: u64,
    /// Tokens; those from a cache are part of `input`.
    pub input: u64,
    pub output: u64,
    pub cached: u64,
    /// Of the input, the part that came from a cache; `None` without input.
    pub cache_hit_rate: Option<f64>,
    /// In US dollars, where the settings name prices.
    pub cost: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tasks {
    /// By how they stand: `succeeded`, `failed`, `cancelled`, `paused`, …
    pub states: BTreeMap<String, u64>,
    /// Why tasks failed or paused, by the cause that was written down.
    pub halts: BTreeMap<String, u64>,
    pub calls: u64,
    pub calls_failed: u64,
    /// Calls of `edit` that had to be tried again, or were not.
    pub repairs: u64,
    /// What the rules did not allow.
    pub denials: u64,
    pub asked: u64,
    /// Of those asked, what the user allowed against the caution of the rules.
    pub overrides: u64,
    /// Of tasks that are over, without waiting for the user.
    pub worked: Option<Times>,
    /// Turns of the model, and those of them that another than the first one took.
    pub turns: u64,
    pub turns_of_fallbacks: u64,
    /// Calls of `tests` that ran, and those where all passed.
    pub tests: u64,
    pub tests_passed: u64,
    pub failures: Failures,
}

/// What went wrong, by its kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Edits that did not fit their files.
    pub bad_edits: u64,
    /// Edits of files that the task was not allowed to change.
    pub out_of_scope: u64,
    /// Commands that it was not allowed to run.
    pub unsafe_commands: u64,
    /// Tasks that were halted because they went in circles.
    pub circles: u64,
    /// States of files for which tests both passed and failed.
    pub flaky_tests: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edits {
    pub hunks_proposed: u64,
    pub hunks_accepted: u64,
    pub hunks_rejected: u64,
    /// Accepted of those decided.
    pub accept_rate: Option<f64>,
    pub applied: u64,
    pub taken_back: u64,
    /// Taken back of those applied.
    pub revert_rate: Option<f64>,
    /// Lines that edits added which stood for a day, and those of them that are in their files now.
    pub lines_added: u64,
    pub lines_kept: u64,
    /// Kept of those added; `None` before an edit is a day old.
    pub retention: Option<f64>,
}

/// Counts what happened in the folder of `workspace` from `since` on. Reads the files that were
/// edited, as `documents` show them.
///
/// # Errors
/// When the database cannot be read.
pub fn report(
    workspace: &Workspace,
    documents: &dyn Documents,
    since: i64,
) -> Result<Report, StoreError> {
    let store = workspace.store();
    let (mut report, applied) = store.read(|c| {
        let mut report = Report {
            since,
            modes: modes(c, since)?,
            models: models(c, since)?,
            answers: times(
                c,
                since,
                "SELECT min(m.ts) - q.ts FROM events q
                 JOIN events m ON m.session = q.session AND m.turn = q.turn AND m.kind = 'message'
                 WHERE q.kind = 'question' AND q.ts >= ?1 GROUP BY q.session, q.turn",
            )?,
            tasks: tasks(c, since)?,
            edits: Edits::default(),
        };
        let applied = edits(c, since, &mut report.edits)?;
        Ok((report, applied))
    })?;
    let worlds = Worlds::new(workspace.root(), documents);
    for token in applied {
        for record in journal::records(store, &token)? {
            let bytes = |image: Option<journal::Image>| image.map_or_else(Vec::new, |i| i.bytes);
            let (before, after) = (bytes(record.before), bytes(record.after));
            let now = match worlds.read(&record.path) {
                Ok(Some(Entry::File { bytes, .. })) => bytes,
                _ => Vec::new(),
            };
            let (added, kept) = lines_kept(&before, &after, &now);
            report.edits.lines_added += added;
            report.edits.lines_kept += kept;
        }
    }
    let edits = &mut report.edits;
    edits.retention = rate(edits.lines_kept, edits.lines_added);
    Ok(report)
}

fn modes(c: &Connection, since: i64) -> rusqlite::Result<BTreeMap<String, Mode>> {
    let mut select = c.prepare(
        "SELECT coalesce(mode, 'chat'), count(*), sum(input), sum(output), sum(cached), sum(s.cost)
         FROM sessions s LEFT JOIN task_state t ON t.session = s.id
         WHERE created >= ?1 GROUP BY 1",
    )?;
    select.query_map([since], read_mode)?.collect()
}

fn models(c: &Connection, since: i64) -> rusqlite::Result<BTreeMap<String, Mode>> {
    let mut select = c.prepare(
        "SELECT body ->> 'model', count(DISTINCT session), sum(body ->> 'input'),
            sum(body ->> 'output'), sum(body ->> 'cached'), total(body ->> 'cost')
         FROM events WHERE kind = 'usage' AND ts >= ?1
            AND (body ->> 'input') + (body ->> 'output') > 0 GROUP BY 1",
    )?;
    select.query_map([since], read_mode)?.collect()
}

fn read_mode(row: &Row<'_>) -> rusqlite::Result<(String, Mode)> {
    let (input, cached) = (row.get(2)?, row.get(4)?);
    let mode = Mode {
        sessions: row.get(1)?,
        input,
        output: row.get(3)?,
        cached,
        cache_hit_rate: rate(cached, input),
        cost: row.get(5)?,
    };
    Ok((row.get(0)?, mode))
}

/// The times, in milliseconds, that a query finds.
fn times(c: &Connection, since: i64, sql: &str) -> rusqlite::Result<Option<Times>> {
    let mut select = c.prepare(sql)?;
    let found = select.query_map([since], |row| row.get::<_, i64>(0))?;
    let mut all = found.collect::<rusqlite::Result<Vec<i64>>>()?;
    all.sort_unstable();
    let at = |percent: usize| {
        let idx = (all.len() * percent).div_ceil(100).saturating_sub(1);
        all.get(idx).map(|time| u64::try_from(*time).unwrap_or(0))
    };
    Ok(at(50).zip(at(95)).map(|(p50, p95)| Times {
        n: all.len(),
        p50,
        p95,
    }))
}

fn tasks(c: &Connection, since: i64) -> rusqlite::Result<Tasks> {
    let by_name = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let counted = |sql: &str| {
        let mut select = c.prepare(sql)?;
        let rows = select.query_map([since], by_name)?;
        rows.collect::<rusqlite::Result<BTreeMap<String, u64>>>()
    };
    let states = counted("SELECT state, count(*) FROM task_state WHERE updated >= ?1 GROUP BY 1")?;
    let halts = counted(
        "SELECT why, count(*) FROM task_state
         WHERE updated >= ?1 AND why IS NOT NULL AND state IN ('failed', 'paused') GROUP BY 1",
    )?;
    let kinds = counted(
        "SELECT kind, count(*) FROM events
         WHERE ts >= ?1 AND kind IN ('denied', 'approval', 'tool_result') GROUP BY 1",
    )?;
    let failed = counted(
        "SELECT json_extract(body, '$.tool'), count(*) FROM events
         WHERE ts >= ?1 AND kind = 'tool_result' AND json_extract(body, '$.outcome') <> 'done'
         GROUP BY 1",
    )?;
    let overrides = counted(
        "SELECT json_extract(subject, '$.type'), count(*) FROM approvals
         WHERE asked >= ?1 AND decision = 'yes' GROUP BY 1",
    )?;
    let turns = counted(
        "SELECT iif(e.body ->> 'model' = i.body ->> 'model', 'first', 'other'), count(*)
         FROM events e JOIN events i ON i.session = e.session AND i.kind = 'intake'
         WHERE e.kind = 'usage' AND e.ts >= ?1
            AND (e.body ->> 'input') + (e.body ->> 'output') > 0 GROUP BY 1",
    )?;
    let tests = counted(
        "SELECT body ->> 'outcome', count(*) FROM events
         WHERE ts >= ?1 AND kind = 'tool_result' AND body ->> 'tool' = 'tests'
            AND body ->> 'tier' IS NOT NULL GROUP BY 1",
    )?;
    let steps = counted(
        "SELECT tool || ' ' || state, count(*) FROM execution_steps
         WHERE planned >= ?1 AND state IN ('denied', 'failed') GROUP BY 1",
    )?;
    let flaky_tests = c.query_row(
        "SELECT count(*) FROM (
            SELECT 1 FROM events
            WHERE ts >= ?1 AND kind = 'tool_result' AND body ->> 'tool' = 'tests'
                AND body ->> 'tier' IS NOT NULL AND body ->> 'outcome' IN ('done', 'failed')
            GROUP BY session, body ->> '$.footprint.state'
            HAVING count(DISTINCT body ->> 'outcome') > 1)",
        [since],
        |row| row.get(0),
    )?;
    let circles = halts.iter().filter(|(why, _)| why.starts_with(CIRCLES));
    let of = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or(0);
    Ok(Tasks {
        worked: times(
            c,
            since,
            "SELECT spent ->> 'wall' FROM task_state WHERE updated >= ?1
                AND spent ->> 'wall' IS NOT NULL
                AND state IN ('succeeded', 'failed', 'cancelled')",
        )?,
        turns: turns.values().sum(),
        turns_of_fallbacks: of(&turns, "other"),
        tests: tests.values().sum(),
        tests_passed: of(&tests, "done"),
        failures: Failures {
            bad_edits: of(&steps, "edit failed"),
            out_of_scope: of(&steps, "edit denied"),
            unsafe_commands: of(&steps, "run denied") + of(&steps, "tests denied"),
            circles: circles.map(|(_, n)| n).sum(),
            flaky_tests,
        },
        states,
        halts,
        calls: of(&kinds, "tool_result"),
        calls_failed: failed.values().sum(),
        repairs: of(&failed, "edit"),
        denials: of(&kinds, "denied"),
        asked: of(&kinds, "approval"),
        overrides: overrides.values().sum::<u64>() - of(&overrides, "question"),
    })
}

/// Counts hunks and edits; returns the edits that stand since a day.
fn edits(c: &Connection, since: i64, edits: &mut Edits) -> rusqlite::Result<Vec<Token>> {
    let mut select = c.prepare(
        "SELECT action, count(*) FROM diff_log WHERE at >= ?1 AND hunk IS NOT NULL GROUP BY 1",
    )?;
    let rows = select.query_map([since], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let hunks = rows.collect::<rusqlite::Result<HashMap<String, u64>>>()?;
    let of = |action: &str| hunks.get(action).copied().unwrap_or(0);
    edits.hunks_proposed = of("propose");
    edits.hunks_accepted = of("accept");
    edits.hunks_rejected = of("reject");
    let decided = edits.hunks_accepted + edits.hunks_rejected;
    edits.accept_rate = rate(edits.hunks_accepted, decided);
    let mut select = c.prepare(
        "SELECT id, at, EXISTS (SELECT 1 FROM transactions u
             WHERE u.undoes = t.id AND u.state <> 'undone')
         FROM transactions t
         WHERE at >= ?1 AND kind = 'apply' AND state IN ('done', 'expired') ORDER BY id DESC",
    )?;
    let rows = select.query_map([since], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
    })?;
    let mut standing = Vec::new();
    for row in rows {
        let (token, at, is_undone): (String, i64, bool) = row?;
        edits.applied += 1;
        edits.taken_back += u64::from(is_undone);
        if !is_undone && now() - at >= SETTLED && standing.len() < MOST_EDITS {
            standing.extend(Token::parse(&token));
        }
    }
    edits.revert_rate = rate(edits.taken_back, edits.applied);
    Ok(standing)
}

/// How many lines `after` added to `before`, and how many of them are in `now`, each line there
/// counted once.
fn lines_kept(before: &[u8], after: &[u8], now: &[u8]) -> (u64, u64) {
    let mut there: HashMap<&[u8], u64> = HashMap::new();
    for line in lines(now) {
        *there.entry(line.trim_ascii()).or_default() += 1;
    }
    let (mut added, mut kept) = (0, 0);
    let after = lines(after);
    for change in diff(&lines(before), &after) {
        for line in after[change.after].iter().map(|line| line.trim_ascii()) {
            if line.is_empty() {
                continue;
            }
            added += 1;
            if let Some(left) = there.get_mut(line).filter(|left| **left > 0) {
                *left -= 1;
                kept += 1;
            }
        }
    }
    (added, kept)
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::store::events::{Durability, EventKind, EventLog, Target};

    #[test]
    fn times_tests_fallbacks_and_kinds_of_failures_are_counted() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let workspace = Workspace::open(root.path(), state.path()).unwrap();
        let log = EventLog::new(Arc::clone(workspace.store()));
        let append = |session: &str, events: serde_json::Value| {
            let kinds: Vec<EventKind> = serde_json::from_value(events).unwrap();
            let target = Target {
                session,
                turn: 1,
                lease: None,
            };
            log.append(target, kinds, Durability::Soon).unwrap();
        };
        let intake = json!({
            "kind": "intake", "prompt": "p", "root": "/", "mode": "review", "model": "first",
            "user": "u", "policy": "x", "risk": "medium", "limits": {},
        });
        let usage = |model: &str, wall: u64| {
            json!({
                "kind": "usage", "input": 10, "output": 1, "cached": 0, "model": model,
                "spent": { "wall": wall },
            })
        };
        let call = |id: &str, tool: &str, outcome: &str, state: u64, tier: Option<&str>| {
            [
                json!({ "kind": "tool_call", "call": id, "tool": tool, "arguments": "{}", "effect": "read" }),
                json!({
                    "kind": "tool_result", "call": id, "tool": tool, "outcome": outcome,
                    "text": "", "took": 1, "tier": tier,
                    "footprint": { "call": 1, "state": state },
                }),
            ]
        };
        for (task, wall) in [("t_1", 5_000), ("t_2", 60_000), ("t_3", 7_000)] {
            append(
                task,
                json!([intake, usage("first", 1), usage("second", wall)]),
            );
        }
        let calls = [
            call("c1", "tests", "done", 1, Some("vm")),
            // The same files, another outcome.
            call("c2", "tests", "failed", 1, Some("vm")),
            call("c3", "tests", "done", 2, Some("vm")),
            // None ran.
            call("c4", "tests", "failed", 2, None),
            call("c5", "edit", "failed", 2, None),
            call("c6", "edit", "denied", 2, None),
            call("c7", "run", "denied", 2, None),
        ];
        append("t_1", json!(calls.concat()));
        append("t_1", json!([{ "kind": "status", "state": "succeeded" }]));
        append(
            "t_2",
            json!([{ "kind": "status", "state": "failed", "why": format!("{CIRCLES}: x") }]),
        );
        append(
            "s_1",
            json!([{ "kind": "question", "text": "q" }, { "kind": "message", "text": "a" }]),
        );
        let report = report(&workspace, &crate::edit::worlds::NoDocuments, 0).unwrap();
        assert_eq!(report.answers.map(|times| times.n), Some(1));
        let tasks = report.tasks;
        let worked = Times {
            n: 2,
            p50: 5_000,
            p95: 60_000,
        };
        assert_eq!(tasks.worked, Some(worked), "one is not over");
        assert_eq!((tasks.turns, tasks.turns_of_fallbacks), (6, 3));
        assert_eq!((tasks.tests, tasks.tests_passed), (3, 2));
        let failures = Failures {
            bad_edits: 1,
            out_of_scope: 1,
            unsafe_commands: 1,
            circles: 1,
            flaky_tests: 1,
        };
        assert_eq!(tasks.failures, failures);
    }

    #[test]
    fn lines_are_kept_where_their_file_still_has_them() {
        let before = "a\nb\n";
        let after = "a\nnew one\nnew two\nnew two\nb\n";
        for (now, expected) in [
            (after, (3, 3)),
            ("    new two\nb\n", (3, 1)),
            ("a\nb\n", (3, 0)),
            ("", (3, 0)),
        ] {
            let counted = lines_kept(before.as_bytes(), after.as_bytes(), now.as_bytes());
            assert_eq!(counted, expected, "{now:?}");
        }
        let less = lines_kept(before.as_bytes(), b"a\n", b"");
        assert_eq!(less, (0, 0), "nothing was added");
    }
}
