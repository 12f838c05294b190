use super::*;
use crate::store::events::{Event, EventKind, Outcome, TaskState};

fn event(ts: i64, kind: EventKind) -> Event {
    Event {
        session: "t".into(),
        turn: 1,
        seq: 1,
        ts,
        kind,
    }
}

fn result(footprint: Footprint, took: u64, text: &str) -> EventKind {
    EventKind::ToolResult {
        call: "c".into(),
        tool: "t".into(),
        outcome: Outcome::Done,
        text: text.into(),
        took,
        tier: None,
        footprint: Some(footprint),
        others: None,
    }
}

/// Plays calls `tool arguments state output`, one a row (`!` before the output: it failed), and
/// returns what the governor said to each: `.`, `nudge` or `halt`. Another one that is made of the
/// record before each call must say the same.
fn play(rows: &str) -> String {
    let ceilings = Ceilings::of(&Limits::default());
    let mut governor = Governor::new(ceilings);
    let mut record = Vec::new();
    let mut is_halted = false;
    let said = rows
        .lines()
        .map(str::trim)
        .filter(|r| !r.is_empty())
        .map(|row| {
            let mut parts = row.splitn(4, ' ');
            let mut next = || parts.next().unwrap_or_default();
            let (tool, arguments, state, output) = (next(), next(), next(), next());
            let observed = Observed {
                tool,
                arguments,
                state: state.parse().unwrap(),
                output: output.trim_start_matches('!'),
                failed: output.starts_with('!'),
            };
            let footprint = observed.footprint();
            let (mut again, halted) = Governor::of_record(ceilings, &record);
            assert_eq!(halted.is_some(), is_halted, "{row}");
            let verdict = governor.observe(footprint);
            assert_eq!(again.observe(footprint), verdict, "{row}");
            record.push(event(0, result(footprint, 0, output)));
            match verdict {
                Verdict::Fine => ".",
                Verdict::Nudge(_) => "nudge",
                Verdict::Halt(_) => {
                    is_halted = true;
                    "halt"
                }
            }
        });
    said.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_taken_since_it_was_told_last_counts_after_a_kill() {
    let footprint = Footprint {
        call: 1,
        error: None,
        state: 1,
    };
    let status = |state| EventKind::Status { state, why: None };
    let said = |text: &str| EventKind::Message { text: text.into() };
    let told = Spent {
        steps: 3,
        tokens: 100,
        cost: 0.5,
        wall: 4_000,
        tools: 1_000,
        output: 50,
    };
    let usage = EventKind::Usage {
        usage: TurnUsage::default(),
        model: "m".into(),
        spent: Some(told),
    };
    let record = [
        event(1_000, status(TaskState::Running)),
        event(5_000, usage),
        event(5_200, result(footprint, 150, "0123456789")),
        event(6_000, status(TaskState::WaitingApproval)),
        // The user thinks.
        event(60_000, status(TaskState::Running)),
        event(60_300, said("Half ")),
        event(60_500, said("an answer")),
        // Nobody works here.
        event(900_000, status(TaskState::Running)),
        event(900_100, result(footprint, 20, "x")),
    ];
    let (governor, halted) = Governor::of_record(Ceilings::of(&Limits::default()), &record);
    let expected = Spent {
        steps: 4,
        wall: 4_000 + 1_000 + 500 + 100,
        tools: 1_170,
        output: 61,
        ..told
    };
    assert_eq!((governor.spent(Instant::now()), halted), (expected, None));
    assert_eq!(governor.calls()["t"], 2);
}

#[test]
fn the_same_call_three_times_is_a_circle_and_twice_three_times_a_halt() {
    let row = "grep x 0 nothing\n";
    assert_eq!(play(&row.repeat(6)), ". . nudge . . halt");
}

#[test]
fn polling_is_no_circle() {
    let rows: String = (0..20)
        .map(|n| format!("run poll 0 {n} percent\n"))
        .collect();
    assert_eq!(play(&rows), vec!["."; 20].join(" "));
}

#[test]
fn a_time_in_the_output_does_not_hide_a_circle() {
    let rows: String = (0..3)
        .map(|n| format!("run t 0 !failed in 0.{n}s\n"))
        .collect();
    assert_eq!(play(&rows), ". . nudge");
}

#[test]
fn tests_run_again_after_an_edit_are_no_circle() {
    let rows: String = (0..10)
        .map(|n| format!("edit e{n} {n} done\ntests all {n} !1 failed\n"))
        .collect();
    assert_eq!(play(&rows), vec!["."; 20].join(" "));
}

#[test]
fn one_error_from_many_arguments_is_a_circle() {
    let rows: String = (0..3)
        .map(|n| format!("read_file f{n} 0 !not found\n"))
        .collect();
    assert_eq!(play(&rows), ". . nudge");
}

#[test]
fn bringing_files_back_and_forth_is_a_circle() {
    let rows: String = (0..6)
        .map(|n| format!("edit e{n} {} done\n", n % 2))
        .collect();
    assert_eq!(play(&rows), ". . . . . nudge");
}

#[test]
fn two_calls_in_turn_are_a_circle() {
    let rows = "read_file a 0 A\nread_file b 0 B\n".repeat(3);
    assert_eq!(play(&rows), ". . . . . nudge");
}

#[test]
fn looking_at_the_same_files_again_and_again_is_a_circle() {
    let files: String = (0..5).map(|n| format!("read_file f{n} 0 {n}\n")).collect();
    let said = play(&files.repeat(3));
    assert_eq!(said.split(' ').position(|s| s == "nudge"), Some(12));
    assert!(!said.contains("halt"));
}

#[test]
fn waiting_for_the_user_costs_no_time() {
    let limits = Limits {
        wall_seconds: Some(10),
        ..Limits::default()
    };
    let mut governor = Governor::new(Ceilings::of(&limits));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    governor.run(start);
    governor.wait(at(6));
    governor.run(at(1000));
    assert_eq!(governor.reached(at(1003)), None);
    assert_eq!(governor.reached(at(1004)), Some(Ceiling::Wall));
    governor.extend(Ceiling::Wall);
    assert_eq!(governor.reached(at(1004)), None);
    assert_eq!(governor.spent(at(1004)).wall, 10_000);
}

#[test]
fn every_ceiling_is_reached() {
    let limits = Limits {
        steps: Some(2),
        tokens: Some(100),
        wall_seconds: Some(1),
        cost: Some(0.5),
        tool_seconds: Some(1),
        output_bytes: Some(10),
        ..Limits::default()
    };
    let now = Instant::now();
    let with = |work: &dyn Fn(&mut Governor)| {
        let mut governor = Governor::new(Ceilings::of(&limits));
        work(&mut governor);
        governor.reached(now)
    };
    let usage = |input, cached, output, cost| TurnUsage {
        input,
        cached,
        output,
        cost,
        ..TurnUsage::default()
    };
    assert_eq!(with(&|g| g.charge_step()), None);
    assert_eq!(
        with(&|g| {
            g.charge_step();
            g.charge_step();
        }),
        Some(Ceiling::Steps)
    );
    let before = now - Duration::from_secs(1);
    assert_eq!(with(&|g| g.run(before)), Some(Ceiling::Wall));
    assert_eq!(
        with(&|g| g.charge_turn(&usage(90, 0, 10, None))),
        Some(Ceiling::Tokens)
    );
    assert_eq!(with(&|g| g.charge_turn(&usage(900, 900, 9, None))), None);
    assert_eq!(
        with(&|g| g.charge_turn(&usage(1, 0, 0, Some(0.5)))),
        Some(Ceiling::Cost)
    );
    assert_eq!(
        with(&|g| g.charge_tool("t", Duration::from_secs(1), 0)),
        Some(Ceiling::Tools)
    );
    assert_eq!(
        with(&|g| g.charge_tool("t", Duration::ZERO, 10)),
        Some(Ceiling::Output)
    );
}

#[test]
fn the_model_is_warned_once() {
    let limits = Limits {
        steps: Some(5),
        ..Limits::default()
    };
    let mut governor = Governor::new(Ceilings::of(&limits));
    let now = Instant::now();
    let warnings: Vec<bool> = (0..5)
        .map(|_| {
            governor.charge_step();
            governor.warning(now).is_some()
        })
        .collect();
    assert_eq!(warnings, [false, false, false, true, false]);
}
