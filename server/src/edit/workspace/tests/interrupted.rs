//! Journals that cannot be written, and files that are something else after a crash.

use super::*;

/// Makes the journal refuse `what` until [`heal`].
fn refuse(workspace: &Workspace, what: &str) {
    let trigger = format!(
        "CREATE TRIGGER full BEFORE {what} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    );
    let made = workspace.store().write(|t| t.execute_batch(&trigger));
    made.unwrap();
}

fn heal(workspace: &Workspace) {
    let healed = workspace
        .store()
        .write(|t| t.execute_batch("DROP TRIGGER full"));
    healed.unwrap();
}

#[test]
fn an_edit_that_is_accepted_again_after_the_journal_failed_stays() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    let choice = Choice::Proposal(proposal.id);
    let key = Some("key");
    refuse(&workspace, "UPDATE OF state ON transactions");
    let failed = workspace.accept(&NoDocuments, &choice, key);
    assert!(matches!(failed, Err(EditError::Failed(_))), "{failed:?}");
    assert_eq!(folder.read("a.txt"), ten());
    heal(&workspace);
    let outcome = workspace.accept(&NoDocuments, &choice, key).unwrap();
    drop(workspace);
    let workspace = folder.open();
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
    rollback(&workspace, &outcome.rollback_token.unwrap()).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
}

#[test]
fn a_rollback_that_failed_is_not_taken_for_done() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let token = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    refuse(&workspace, "UPDATE OF state ON transactions");
    rollback(&workspace, &token).unwrap_err();
    assert_eq!(workspace.last().unwrap().unwrap().token, token);
    heal(&workspace);
    rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
}

/// Files and the states of their hunks are decided in one stroke.
#[test]
fn a_decision_that_cannot_be_kept_changes_no_file() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    let choice = Choice::Proposal(proposal.id);
    refuse(&workspace, "UPDATE OF body ON proposals");
    workspace.accept(&NoDocuments, &choice, None).unwrap_err();
    heal(&workspace);
    assert_eq!(folder.read("a.txt"), ten());
    let token = workspace
        .accept(&NoDocuments, &choice, None)
        .unwrap()
        .rollback_token
        .unwrap();
    refuse(&workspace, "UPDATE OF body ON proposals");
    rollback(&workspace, &token).unwrap_err();
    heal(&workspace);
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
    rollback(&workspace, &token).unwrap();
}

/// Leaves `src/a.txt` changed by an edit that was cut off, as a crash would.
fn cut_off(folder: &Folder) {
    let workspace = folder.open();
    apply(&workspace, &block("src/a.txt", "2\n", "two\n"));
    let cut = workspace
        .store()
        .write(|t| t.execute_batch("UPDATE transactions SET state = 'begun'"));
    cut.unwrap();
}

#[test]
fn a_folder_opens_though_what_a_crash_left_is_something_else_by_now() {
    let outside = tempfile::tempdir().unwrap();
    type Meddling<'a> = &'a dyn Fn(&Path);
    let changes: [(&str, Meddling<'_>); 4] = [
        ("a folder", &|root| {
            fs::remove_file(root.join("src/a.txt")).unwrap();
            fs::create_dir(root.join("src/a.txt")).unwrap();
        }),
        ("below a file", &|root| {
            fs::remove_dir_all(root.join("src")).unwrap();
            fs::write(root.join("src"), "a file\n").unwrap();
        }),
        ("outside", &|root| {
            fs::remove_dir_all(root.join("src")).unwrap();
            std::os::unix::fs::symlink(outside.path(), root.join("src")).unwrap();
        }),
        ("too large", &|root| {
            let file = File::create(root.join("src/a.txt")).unwrap();
            file.set_len(crate::edit::text::MAX_FILE as u64 + 1)
                .unwrap();
        }),
    ];
    for (what, change) in changes {
        let folder = folder(&[("src/a.txt", &ten()), ("b.txt", "b\n")]);
        cut_off(&folder);
        change(&folder.root);
        let workspace = Workspace::open(&folder.root, &folder.state)
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        apply(&workspace, &block("b.txt", "b\n", "B\n"));
        assert_eq!(folder.read("b.txt"), "B\n", "{what}");
    }
}
