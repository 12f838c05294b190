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
