//! Journals that cannot be written, and files that are something else after a crash.

use super::editor::Hindrance;
use super::*;
use crate::edit::faults::{self, Step};

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

/// Two documents and a file change, and writing the file fails after the documents.
fn fail_after_documents(folder: &Folder, workspace: &Workspace, editor: &Editor) -> EditError {
    let answer = ["a.txt", "b.txt", "c.txt"].map(|path| block(path, "2\n", "two\n"));
    let proposal = propose(workspace, editor, &answer.concat());
    faults::set(Some(Box::new(|step| match step {
        Step::Swap => Err(rustix::io::Errno::IO.into()),
        _ => Ok(()),
    })));
    let failed = workspace.accept(editor, &Choice::Proposal(proposal.id), None);
    faults::set(None);
    assert_eq!(folder.read("c.txt"), ten());
    failed.unwrap_err()
}

fn with_editor() -> (Folder, Workspace, Editor) {
    let folder = folder(&["a.txt", "b.txt", "c.txt"].map(|path| (path, TEN)));
    let workspace = folder.open();
    let editor = Editor::with(Manner::Honest, &[("a.txt", TEN), ("b.txt", TEN)]);
    (folder, workspace, editor)
}

const TEN: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

#[test]
fn a_document_that_is_not_given_back_keeps_no_other_and_is_given_back_before_the_next_edit() {
    let (folder, workspace, editor) = with_editor();
    editor.hinder(&[Hindrance::Refuses]);
    let failed = fail_after_documents(&folder, &workspace, &editor);
    assert!(
        matches!(failed, EditError::Failed(Failure::HalfWay { .. })),
        "{failed}"
    );
    assert_eq!(editor.text("a.txt"), ten_with(&[(2, "two\n")]));
    assert_eq!(editor.text("b.txt"), ten());
    // Proposing needs no file, and whoever decides next has the documents.
    let proposal = propose(&workspace, &editor, &block("c.txt", "8\n", "eight\n"));
    let choice = Choice::Proposal(proposal.id);
    workspace.accept(&editor, &choice, None).unwrap();
    assert_eq!(editor.text("a.txt"), ten());
    assert_eq!(folder.read("c.txt"), ten_with(&[(8, "eight\n")]));
}

#[test]
fn a_document_that_is_typed_into_is_given_back_around_what_was_typed() {
    let (folder, workspace, editor) = with_editor();
    editor.hinder(&[Hindrance::Typing("1\ntwo\n3\n4\n5\n6\n7\n8\n9\n10\nmine\n")]);
    let failed = fail_after_documents(&folder, &workspace, &editor);
    assert!(
        matches!(failed, EditError::Failed(Failure::Disk(_))),
        "{failed}"
    );
    assert_eq!(editor.text("a.txt"), format!("{TEN}mine\n"));
    assert_eq!(editor.text("b.txt"), ten());
}

#[test]
fn a_document_that_was_written_over_is_named_in_the_error() {
    let (folder, workspace, editor) = with_editor();
    editor.hinder(&[Hindrance::Typing("1\ntwo and mine\n3\n")]);
    let failed = fail_after_documents(&folder, &workspace, &editor);
    let EditError::Failed(Failure::Foreign { left, .. }) = &failed else {
        panic!("{failed}")
    };
    assert_eq!(left, &[RepoPath::parse("a.txt").unwrap()]);
    assert!(failed.to_string().contains("a.txt was written"), "{failed}");
    assert_eq!(editor.text("a.txt"), "1\ntwo and mine\n3\n");
    assert_eq!(editor.text("b.txt"), ten());
}
