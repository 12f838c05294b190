use super::*;
use crate::model::Message;

fn log() -> (tempfile::TempDir, EventLog) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    (directory, EventLog::new(store))
}

fn target(session: &str) -> Target<'_> {
    Target {
        session,
        turn: 1,
        lease: None,
    }
}

fn said(text: &str) -> EventKind {
    EventKind::Message { text: text.into() }
}

#[test]
fn events_are_numbered_told_and_read_back_as_they_were_written() {
    let (_directory, log) = log();
    let mut heard = log.subscribe();
    let kinds = vec![said("a"), said("b")];
    let written = log.append(target("s_1"), kinds, Durability::Soon).unwrap();
    assert_eq!(written.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(heard.try_recv().unwrap(), written[0]);
    assert_eq!(heard.try_recv().unwrap(), written[1]);
    let read = log.read_from("s_1", 2, 10).unwrap();
    assert_eq!(read, [Event::clone(&written[1])]);
    assert!(log.read_from("s_2", 1, 10).unwrap().is_empty());
}

#[test]
fn what_is_kept_has_no_secrets() {
    let (_directory, log) = log();
    let secret = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let message = Message::User {
        text: format!("use {secret}"),
    };
    let written = log
        .append(
            target("s"),
            vec![EventKind::Entry { message }],
            Durability::Synced,
        )
        .unwrap();
    let shown = serde_json::to_string(&*written[0]).unwrap();
    assert!(shown.contains("use [redacted key]"), "{shown}");
    let kept: String = log
        .store()
        .read(|c| {
            c.query_row(
                "SELECT body || (SELECT title FROM sessions) FROM events",
                [],
                |r| r.get(0),
            )
        })
        .unwrap();
    assert!(!kept.contains(secret), "{kept}");
}

#[test]
fn a_change_a_gap_and_a_cut_are_found() {
    for (harm, seq) in [
        (
            "UPDATE events SET body = replace(body, 'two', 'too') WHERE seq = 2",
            2,
        ),
        ("UPDATE events SET ts = ts + 1 WHERE seq = 3", 3),
        ("DELETE FROM events WHERE seq = 2", 2),
        ("DELETE FROM events WHERE seq = 4", 4),
    ] {
        let (_directory, log) = log();
        let kinds = ["one", "two", "three", "four"].map(said).to_vec();
        log.append(target("s"), kinds, Durability::Soon).unwrap();
        assert_eq!(log.verify("s").unwrap().unwrap().events, 4);
        log.store().write(|t| t.execute(harm, [])).unwrap();
        assert_eq!(log.verify("s").unwrap().unwrap_err().seq, seq, "{harm}");
    }
}

#[test]
fn who_was_overtaken_writes_nothing() {
    let (_directory, log) = log();
    let first = Lease::take(log.store(), "s", "one").unwrap().unwrap();
    // The holder's process is this one, which lives.
    assert_eq!(Lease::take(log.store(), "s", "two").unwrap(), None);
    first.release(log.store()).unwrap();
    let second = Lease::take(log.store(), "s", "two").unwrap().unwrap();
    assert!(!first.renew(log.store()).unwrap());
    let with = |lease| Target {
        lease: Some(lease),
        ..target("s")
    };
    let refused = log.append(with(&first), vec![said("late")], Durability::Synced);
    assert!(matches!(refused, Err(AppendError::LostLease)));
    log.append(with(&second), vec![said("mine")], Durability::Synced)
        .unwrap();
    let texts: Vec<EventKind> = log
        .read_from("s", 0, 9)
        .unwrap()
        .into_iter()
        .map(|e| e.kind)
        .collect();
    assert_eq!(texts, [said("mine")]);
}

#[test]
fn rows_beside_an_event_come_and_go_with_it() {
    let (_directory, log) = log();
    let failed = log.append_with(target("s"), vec![said("x")], Durability::Synced, &|t| {
        t.execute("no sql at all", []).map(drop)
    });
    assert!(failed.is_err());
    assert!(log.sessions(9).unwrap().is_empty());
}

#[test]
fn permissions_end_with_their_time_their_task_and_when_taken_back() {
    let (_directory, log) = log();
    let grant = |id: &str, scope, expires| {
        EventKind::Grant(Grant {
            id: id.into(),
            allows: Permission::Path("docs/**".into()),
            scope,
            expires,
            by: "user".into(),
        })
    };
    let kinds = vec![
        grant("once", GrantScope::Once, None),
        grant("task", GrantScope::Task, None),
        grant("folder", GrantScope::Repository, None),
        grant("old", GrantScope::Repository, Some(1)),
    ];
    log.append(target("t_1"), kinds, Durability::Synced)
        .unwrap();
    let ids = |task: &str| -> Vec<String> {
        let grants = log.grants(Some(task)).unwrap();
        grants.into_iter().map(|g| g.id).collect()
    };
    assert_eq!(ids("t_1"), ["folder", "task"]);
    assert_eq!(ids("t_2"), ["folder"]);
    let revoked = EventKind::Revoked {
        grant: "folder".into(),
    };
    log.append(target("t_1"), vec![revoked], Durability::Synced)
        .unwrap();
    assert_eq!(ids("t_2"), [] as [&str; 0]);
}

#[test]
fn what_is_asked_for_is_shown_up_to_a_length_and_the_rest_is_counted() {
    let asked = |command: String| {
        let remembered = String::new();
        let subject = Subject::Command {
            command,
            remembered,
        };
        subject.in_words()
    };
    assert_eq!(asked("ls\u{1b}[2J".into()), "run `ls\\u{1b}[2J`");
    let long = asked(format!("echo {}; rm -rf x", "a".repeat(1 << 20)));
    assert!(long.len() < 5_000, "{}", long.len());
    assert!(
        long.ends_with("… [and 1044591 characters more]`"),
        "{}",
        &long[4_000..]
    );
}
