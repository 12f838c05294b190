//! What is too old, or too much, is forgotten.

use super::*;

#[test]
fn the_key_of_an_expired_request_is_free_again() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let accept = |old: &str, new: &str| {
        let proposal = propose(&workspace, &NoDocuments, &block("a.txt", old, new));
        workspace.accept(&NoDocuments, &Choice::Proposal(proposal.id), Some("key"))
    };
    accept("2\n", "two\n").unwrap();
    let all = Retention {
        bytes: 0,
        ..Retention::default()
    };
    journal::expire(workspace.store(), all).unwrap();
    accept("3\n", "three\n").unwrap();
    assert_eq!(
        folder.read("a.txt"),
        ten_with(&[(2, "two\n"), (3, "three\n")])
    );
}

#[test]
fn an_unknown_token_is_an_error_and_an_expired_one_says_so() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    for token in ["", "x", "0198c7a0-0000-7000-8000-000000000000"] {
        let refused = workspace.rollback(&NoDocuments, token, Mode::AllOrNothing, None);
        assert!(
            matches!(refused, Err(EditError::UnknownToken(_))),
            "{token}"
        );
    }
    let old = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let new = apply(&workspace, &block("a.txt", "3\n", "three\n"));
    // The bytes of the newer one, and of what it was proposed as.
    let images = 2 * i64::try_from(ten().len() + 4).unwrap();
    let sql = "SELECT length(body) FROM proposals ORDER BY at DESC, id DESC LIMIT 1";
    let body: i64 = workspace
        .store()
        .read(|c| c.query_row(sql, [], |row| row.get(0)))
        .unwrap();
    let retention = Retention {
        bytes: images + body,
        ..Retention::default()
    };
    assert_eq!(journal::expire(workspace.store(), retention).unwrap(), 1);
    assert!(matches!(
        rollback(&workspace, &old),
        Err(EditError::Expired(_))
    ));
    rollback(&workspace, &new).unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
}

#[test]
fn what_is_too_much_is_forgotten_while_the_folder_is_open() {
    let folder = folder(&[("a.txt", "0\n")]);
    let mut workspace = folder.open();
    workspace.retention.bytes = 20_000;
    let long = "x".repeat(1_000);
    let mut token = None;
    for n in 0..50 {
        let new = format!("{}\n{long}\n", n + 1);
        let old = folder.read("a.txt");
        token = Some(apply(&workspace, &block("a.txt", &old, &new)));
    }
    let sql =
        "SELECT (SELECT sum(length(bytes)) FROM blobs) + (SELECT sum(length(body)) FROM proposals)";
    let n_bytes: i64 = workspace
        .store()
        .read(|c| c.query_row(sql, [], |row| row.get(0)))
        .unwrap();
    // One check for every part of it.
    assert!(n_bytes < 40_000, "{n_bytes} bytes are kept");
    rollback(&workspace, &token.unwrap()).unwrap();
    assert!(folder.read("a.txt").starts_with("49\n"));
}

#[test]
fn thousands_of_edits_too_many_are_forgotten_at_once() {
    let folder = folder(&[]);
    let workspace = folder.open();
    let made = workspace.store().write(|t| {
        t.execute_batch(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
            INSERT INTO transactions (id, at, state, kind, author, is_swept)
                SELECT printf('t%05d', n), 1000 * unixepoch() + n, 'done', 'apply', 'test', 1 FROM n;
            INSERT INTO blobs SELECT CAST(id AS BLOB), zeroblob(1000) FROM transactions;
            INSERT INTO changes (token, idx, path, world, after_hash, after_mode)
                SELECT id, 0, 'a.txt', 'disk', CAST(id AS BLOB), 420 FROM transactions;",
        )
    });
    made.unwrap();
    let retention = Retention {
        bytes: 10_000,
        ..Retention::default()
    };
    let started = std::time::Instant::now();
    assert_eq!(
        journal::expire(workspace.store(), retention).unwrap(),
        4_990
    );
    let took = started.elapsed();
    assert!(took.as_secs() < 1, "took {took:?}");
    let sql = "SELECT count(*) FROM blobs";
    let n_blobs: i64 = workspace
        .store()
        .read(|c| c.query_row(sql, [], |row| row.get(0)))
        .unwrap();
    assert_eq!(n_blobs, 10);
}

#[test]
fn what_is_long_expired_leaves_no_rows() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let old = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    rollback(&workspace, &old).unwrap();
    let month = Retention::default().milliseconds;
    let n_rows = |expected: [i64; 4]| {
        journal::expire(workspace.store(), Retention::default()).unwrap();
        let tables = ["transactions", "changes", "diff_log", "blobs"];
        let counted: [i64; 4] = tables.map(|table| {
            let sql = format!("SELECT count(*) FROM {table}");
            let n_rows = |c: &rusqlite::Connection| c.query_row(&sql, [], |row| row.get(0));
            workspace.store().read(n_rows).unwrap()
        });
        assert_eq!(counted, expected);
    };
    let age = |milliseconds: i64| {
        let aged = workspace.store().write(|t| {
            t.execute("UPDATE transactions SET at = at - ?1", [milliseconds])?;
            t.execute("UPDATE diff_log SET at = at - ?1", [milliseconds])
        });
        aged.unwrap();
    };
    n_rows([2, 2, 3, 2]);
    age(month + 1);
    n_rows([2, 2, 3, 0]);
    age(2 * month);
    n_rows([0, 0, 0, 0]);
    apply(&workspace, &block("a.txt", "3\n", "three\n"));
}
