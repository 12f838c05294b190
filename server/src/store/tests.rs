use super::*;

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store
        .write(|t| t.pragma_update(None, "user_version", 99))
        .unwrap();
    drop(store);
    let refused = Store::open(directory.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Newer { found: 99, .. }),
        "{refused}"
    );
}

/// The tables and indexes there are, as SQL.
fn schema(connection: &Connection) -> Vec<String> {
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_database_of_any_older_version_is_brought_up_to_date_and_keeps_its_rows() {
    let fresh = tempfile::tempdir().unwrap();
    let fresh = Store::open(fresh.path()).unwrap();
    let wanted = fresh.read(|c| Ok(schema(c))).unwrap();
    for (n_steps, step) in (0_u32..).zip(0..=MIGRATIONS.len()) {
        let directory = tempfile::tempdir().unwrap();
        let old = Connection::open(directory.path().join(FILE)).unwrap();
        for sql in &MIGRATIONS[..step] {
            old.execute_batch(sql).unwrap();
        }
        old.pragma_update(None, "user_version", n_steps).unwrap();
        let has_rows = n_steps > 0;
        if has_rows {
            let insert = "INSERT INTO blobs (hash, bytes) VALUES (x'00', x'01')";
            old.execute(insert, []).unwrap();
        }
        drop(old);
        let store = Store::open(directory.path()).unwrap();
        let count = "SELECT count(*) FROM blobs WHERE bytes = x'01'";
        let (found, n_rows): (_, u32) = store
            .read(|c| Ok((schema(c), c.query_row(count, [], |row| row.get(0))?)))
            .unwrap();
        assert_eq!(found, wanted, "from step {n_steps}");
        assert_eq!(n_rows, u32::from(has_rows), "from step {n_steps}");
    }
}

#[test]
fn of_tasks_that_are_there_the_record_says_whose_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let old = Connection::open(directory.path().join(FILE)).unwrap();
    let known = 3;
    for sql in &MIGRATIONS[..known] {
        old.execute_batch(sql).unwrap();
    }
    old.pragma_update(None, "user_version", known as u32)
        .unwrap();
    old.execute_batch(
        r#"INSERT INTO sessions (id, created, head) VALUES ('t', 1, x'00'), ('s', 1, x'00'), ('x', 1, x'00');
        INSERT INTO task_state (session, state, prompt, mode, intake, updated) VALUES
            ('t', 'failed', '', 'review', '{"user":"ann","root":"/w"}', 1),
            ('x', 'failed', '', 'review', 'no json', 1);"#,
    )
    .unwrap();
    drop(old);
    let store = Store::open(directory.path()).unwrap();
    let rows = store.read(|c| {
        let mut select = c.prepare("SELECT id, user, repo FROM sessions ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, Option<String>, Option<String>)>>>()
    });
    let told = |text: &str| Some(text.to_owned());
    let expected = [
        ("s".to_owned(), None, None),
        ("t".to_owned(), told("ann"), told("/w")),
        ("x".to_owned(), None, None),
    ];
    assert_eq!(rows.unwrap(), expected);
}

#[test]
fn what_fails_half_way_leaves_no_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let insert = "INSERT INTO blobs (hash, bytes) VALUES (x'00', x'00')";
    let failed = store.write(|t| {
        t.execute(insert, [])?;
        t.execute("no sql at all", [])
    });
    assert!(failed.is_err());
    let n_rows: u32 = store
        .read(|c| c.query_row("SELECT count(*) FROM blobs", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(n_rows, 0);
}

#[cfg(unix)]
#[test]
fn others_cannot_look_into_the_state() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("state");
    Store::open(&inner).unwrap();
    let mode = std::fs::metadata(&inner).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}
