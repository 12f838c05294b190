use super::*;
use crate::store::events::Outcome;

fn event(seq: u64, kind: EventKind) -> Event {
    Event {
        session: "t".into(),
        turn: 1,
        seq,
        ts: 0,
        kind,
    }
}

/// A task of `n` calls, each with a result of 400 characters; every third one fails.
fn task(n: u64) -> Transcript {
    let mut transcript = Transcript::default();
    let text = "Fix the parser.".to_owned();
    transcript.push(&event(
        1,
        EventKind::Entry {
            message: Message::User { text },
        },
    ));
    for i in 0..n {
        let call = ToolCall {
            id: format!("c{i}"),
            name: "grep".into(),
            arguments: format!("{{\"pattern\":\"p{i}\"}}"),
        };
        let message = Message::Assistant {
            text: String::new(),
            thinking: Vec::new(),
            calls: vec![call],
        };
        transcript.push(&event(2 + 2 * i, EventKind::Entry { message }));
        transcript.push(&event(
            3 + 2 * i,
            EventKind::ToolResult {
                call: format!("c{i}"),
                tool: "grep".into(),
                outcome: if i % 3 == 0 {
                    Outcome::Failed
                } else {
                    Outcome::Done
                },
                text: format!("result {i} {}", "x".repeat(400)),
                took: 0,
                tier: None,
            },
        ));
    }
    transcript
}

/// Whether every call has exactly one result, right after it.
fn is_whole(messages: &[Message]) -> bool {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        match message {
            Message::ToolResult { call, .. } => match open.iter().position(|id| id == call) {
                Some(at) => drop(open.remove(at)),
                None => return false,
            },
            Message::User { .. } if !open.is_empty() => return false,
            Message::User { .. } => {}
            Message::Assistant { calls, .. } => {
                if !open.is_empty() {
                    return false;
                }
                open = calls.iter().map(|c| c.id.clone()).collect();
            }
        }
    }
    open.is_empty()
}

#[test]
fn a_shortened_conversation_is_whole_and_keeps_task_plan_failures_and_the_last_turns() {
    let plan = [PlanItem {
        text: "Look around".into(),
        state: PlanState::InProgress,
    }];
    let files = [DiffFile {
        path: "src/a.rs".into(),
        added: 3,
        removed: 1,
    }];
    let state = State {
        plan: &plan,
        files: &files,
    };
    for n in 2..30 {
        let mut transcript = task(n);
        let before = transcript.tokens();
        let Some(kind) = transcript.compaction(300, state) else {
            continue;
        };
        transcript.push(&event(1000, kind));
        let messages = transcript.messages();
        assert!(is_whole(&messages), "{n}: {messages:?}");
        assert!(transcript.tokens() < before || n < 4);
        let Message::User { text } = &messages[0] else {
            panic!("the task comes first");
        };
        for kept in [
            "Fix the parser.",
            "plan, now: Look around",
            "src/a.rs (+3 -1)",
            "FAILED: result 0",
        ] {
            assert!(text.contains(kept), "{n}: {kept} is not in {text}");
        }
        let last = format!("result {}", n - 1);
        assert!(
            matches!(messages.last(), Some(Message::ToolResult { text, .. }) if text.starts_with(&last))
        );
    }
}

#[test]
fn shortening_again_and_again_stays_within_bounds() {
    let state = State {
        plan: &[],
        files: &[],
    };
    let mut transcript = task(400);
    for seq in 0..5 {
        if let Some(kind) = transcript.compaction(100, state) {
            transcript.push(&event(10_000 + seq, kind));
        }
        assert!(transcript.summary.len() <= MAX_SUMMARY + 64);
        assert_eq!(transcript.summary.matches(STATE).count(), 1);
    }
}

#[test]
fn calls_without_a_result_are_open() {
    let mut transcript = task(1);
    assert!(transcript.open_calls().is_empty());
    let calls = ["a", "b"].map(|id| ToolCall {
        id: id.into(),
        name: "run".into(),
        arguments: "{}".into(),
    });
    let message = Message::Assistant {
        text: String::new(),
        thinking: Vec::new(),
        calls: calls.to_vec(),
    };
    transcript.push(&event(10, EventKind::Entry { message }));
    assert_eq!(transcript.open_calls(), calls);
}
