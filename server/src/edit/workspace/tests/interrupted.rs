//! Journals that cannot be written.

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

