//! Several proposals at once, and several processes on one folder.

use super::*;

fn accept_file(workspace: &Workspace, path: &str) -> Result<Outcome, EditError> {
    let choice = Choice::File(RepoPath::parse(path).unwrap());
    workspace.accept(&NoDocuments, &choice, None)
}

fn states(workspace: &Workspace) -> Vec<HunkState> {
    let listed = workspace.list();
    let hunks = listed.iter().flat_map(|p| p.hunks());
    hunks.map(|(_, hunk)| hunk.state).collect()
}

#[test]
fn hunks_of_two_proposals_for_one_file_are_accepted_and_taken_back_together() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    propose(&workspace, &NoDocuments, &block("a.txt", "8\n", "eight\n"));
    let outcome = accept_file(&workspace, "a.txt").unwrap();
    assert_eq!(outcome.paths, ["a.txt"]);
    assert_eq!(
        folder.read("a.txt"),
        ten_with(&[(2, "two\n"), (8, "eight\n")])
    );
    assert_eq!(states(&workspace), [HunkState::Accepted; 2]);
    let redo = rollback(&workspace, &outcome.rollback_token.unwrap()).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(states(&workspace), [HunkState::Rejected; 2]);
    let redone = rollback(&workspace, &redo.rollback_token.unwrap()).unwrap();
    assert_eq!(states(&workspace), [HunkState::Accepted; 2]);
    rollback(&workspace, &redone.rollback_token.unwrap()).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(states(&workspace), [HunkState::Rejected; 2]);
}

#[test]
fn what_is_rejected_and_taken_back_is_as_it_was_decided_before() {
    use HunkState::{Accepted, Pending, Rejected};
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let answer = block("a.txt", "2\n", "two\n") + &block("a.txt", "8\n", "eight\n");
    let hunks = ids(&propose(&workspace, &NoDocuments, &answer));
    let first = Choice::Hunks(vec![hunks[0].clone()]);
    workspace.accept(&NoDocuments, &first, None).unwrap();
    // One that is in and one that never was.
    let rejected = workspace.reject(&NoDocuments, &Choice::Hunks(hunks), None);
    let mut token = rejected.unwrap().rollback_token.unwrap();
    assert_eq!(states(&workspace), [Rejected, Rejected]);
    for _ in 0..2 {
        token = rollback(&workspace, &token)
            .unwrap()
            .rollback_token
            .unwrap();
        assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
        assert_eq!(states(&workspace), [Accepted, Pending]);
        token = rollback(&workspace, &token)
            .unwrap()
            .rollback_token
            .unwrap();
        assert_eq!(folder.read("a.txt"), ten());
        assert_eq!(states(&workspace), [Rejected, Rejected]);
    }
}

#[test]
fn one_answer_proposed_twice_is_accepted_once() {
    let folder = folder(&[("a.txt", &ten()), ("gone.txt", "gone\n")]);
    let workspace = folder.open();
    let patch = "*** Begin Patch\n*** Add File: new.txt\n+new\n*** Delete File: gone.txt\n*** Update File: a.txt\n@@\n 1\n-2\n+two\n 3\n*** End Patch\n";
    let first = propose(&workspace, &NoDocuments, patch);
    propose(&workspace, &NoDocuments, patch);
    for path in ["a.txt", "new.txt", "gone.txt"] {
        accept_file(&workspace, path).unwrap();
    }
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
    assert_eq!(folder.read("new.txt"), "new\n");
    assert!(!folder.has("gone.txt"));
    assert_eq!(states(&workspace), [HunkState::Accepted; 6]);
    assert_eq!(ids(&first).len(), 3);
}

#[test]
fn two_proposals_for_the_same_lines_are_a_conflict_and_change_nothing() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "zwei\n"));
    let refused = accept_file(&workspace, "a.txt");
    assert!(
        matches!(refused, Err(EditError::Conflicts(_))),
        "{refused:?}"
    );
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(states(&workspace), [HunkState::Pending; 2]);
}

#[test]
fn what_another_process_decided_is_known_here() {
    let folder = folder(&[("a.txt", &ten())]);
    let editor = folder.open();
    let proposal = propose(&editor, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    let choice = Choice::Proposal(proposal.id.clone());
    let terminal = folder.open();
    terminal.accept(&NoDocuments, &choice, None).unwrap();
    assert_eq!(states(&editor), [HunkState::Accepted]);
    // A hunk that is in is taken out again.
    let all = Choice::Hunks(ids(&proposal));
    editor.reject(&NoDocuments, &all, None).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(states(&terminal), [HunkState::Rejected]);
    // One proposed there can be decided here.
    let later = propose(&terminal, &NoDocuments, &block("a.txt", "8\n", "eight\n"));
    editor
        .accept(&NoDocuments, &Choice::Hunks(ids(&later)), None)
        .unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(8, "eight\n")]));
}

#[test]
fn taking_back_after_a_restart_shows_the_hunks_as_taken_back() {
    let folder = folder(&[("a.txt", &ten())]);
    let editor = folder.open();
    let token = apply(&editor, &block("a.txt", "2\n", "two\n"));
    rollback(&folder.open(), &token).unwrap();
    assert_eq!(states(&editor), [HunkState::Rejected]);
}

#[test]
fn a_plan_that_was_decided_stays_decided_when_it_is_proposed_after_a_restart() {
    let folder = folder(&[("a.txt", &ten())]);
    let propose_plan = |workspace: &Workspace| {
        let edits = parse(&block("a.txt", "2\n", "two\n"), Format::Auto).unwrap();
        let tree = Worlds::new(workspace.root(), &NoDocuments);
        let plan = plan(&edits, &tree, &Options::default()).unwrap();
        workspace
            .propose_plan(plan, "p_task", "test", None)
            .unwrap()
    };
    let workspace = folder.open();
    propose_plan(&workspace);
    let text = folder.read("a.txt");
    let choice = Choice::Proposal("p_task".into());
    workspace.accept(&NoDocuments, &choice, None).unwrap();
    drop(workspace);
    // A task that is taken up again makes the plan from the files as they were.
    let applied = folder.read("a.txt");
    folder.write("a.txt", &text);
    let workspace = folder.open();
    let known = propose_plan(&workspace);
    folder.write("a.txt", &applied);
    assert!(!known.is_open());
    assert_eq!(states(&workspace), [HunkState::Accepted]);
}
