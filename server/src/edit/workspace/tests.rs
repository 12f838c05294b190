//! Hunks, tokens and other people's work, on real files.

mod editor;
mod interleavings;
mod interrupted;
mod retention;
mod shared;
mod spelling;

use std::collections::BTreeMap;
use std::fs;

use self::editor::{Editor, Manner};
use super::*;
use crate::edit::hunks::HunkState;
use crate::edit::parse::{Format, parse};
use crate::edit::worlds::NoDocuments;

struct Folder {
    _directory: tempfile::TempDir,
    root: PathBuf,
    state: PathBuf,
}

fn folder(files: &[(&str, &str)]) -> Folder {
    let directory = tempfile::tempdir().unwrap();
    let (root, state) = (
        directory.path().join("work"),
        directory.path().join("state"),
    );
    fs::create_dir(&root).unwrap();
    let folder = Folder {
        _directory: directory,
        root,
        state,
    };
    files
        .iter()
        .for_each(|(path, text)| folder.write(path, text));
    folder
}

impl Folder {
    fn open(&self) -> Workspace {
        Workspace::open(&self.root, &self.state).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// A search/replace block.
fn block(path: &str, old: &str, new: &str) -> String {
    format!("{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n")
}

fn propose(workspace: &Workspace, documents: &dyn Documents, answer: &str) -> Proposal {
    let edits = parse(answer, Format::Auto).unwrap();
    workspace
        .propose(documents, &edits, &Options::default(), "test", Some("1"))
        .unwrap()
}

fn apply(workspace: &Workspace, answer: &str) -> Token {
    let proposal = propose(workspace, &NoDocuments, answer);
    let outcome = workspace.accept(&NoDocuments, &Choice::Proposal(proposal.id), None);
    outcome.unwrap().rollback_token.unwrap()
}

fn rollback(workspace: &Workspace, token: &Token) -> Result<Outcome, EditError> {
    workspace.rollback(&NoDocuments, token.as_str(), Mode::AllOrNothing, None)
}

fn ids(proposal: &Proposal) -> Vec<String> {
    proposal.hunks().map(|(_, h)| h.id.clone()).collect()
}

/// Ten lines, `1` to `10`.
fn ten() -> String {
    (1..=10).map(|n| format!("{n}\n")).collect()
}

fn ten_with(changes: &[(usize, &str)]) -> String {
    (1..=10)
        .map(|n| match changes.iter().find(|(line, _)| *line == n) {
            Some((_, text)) => (*text).to_owned(),
            None => format!("{n}\n"),
        })
        .collect()
}

#[test]
fn each_hunk_is_decided_on_its_own() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let answer = block("a.txt", "2\n", "two\n") + &block("a.txt", "8\n", "eight\n");
    let proposal = propose(&workspace, &NoDocuments, &answer);
    let [first, second] = &ids(&proposal)[..] else {
        panic!("two hunks")
    };
    workspace
        .accept(&NoDocuments, &Choice::Hunks(vec![second.clone()]), None)
        .unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(8, "eight\n")]));
    workspace
        .reject(&NoDocuments, &Choice::Hunks(vec![first.clone()]), None)
        .unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(8, "eight\n")]));
    // One that is in is taken out again.
    workspace
        .reject(&NoDocuments, &Choice::Hunks(vec![second.clone()]), None)
        .unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    workspace
        .accept(&NoDocuments, &Choice::Hunks(ids(&proposal)), None)
        .unwrap();
    assert_eq!(
        folder.read("a.txt"),
        ten_with(&[(2, "two\n"), (8, "eight\n")])
    );
}

#[test]
fn hunks_keep_their_ids_and_states_over_a_restart() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let answer = block("a.txt", "2\n", "two\n") + &block("a.txt", "8\n", "eight\n");
    let proposal = propose(&workspace, &NoDocuments, &answer);
    let first = ids(&proposal)[0].clone();
    workspace
        .accept(&NoDocuments, &Choice::Hunks(vec![first]), None)
        .unwrap();
    let before = workspace.list();
    drop(workspace);
    let workspace = folder.open();
    assert_eq!(workspace.list(), before);
    workspace
        .accept(&NoDocuments, &Choice::Proposal(proposal.id), None)
        .unwrap();
    assert_eq!(
        folder.read("a.txt"),
        ten_with(&[(2, "two\n"), (8, "eight\n")])
    );
}

#[test]
fn the_same_hunk_has_the_same_id_and_equal_ones_do_not() {
    let folder = folder(&[("a.txt", "x\n1\nx\n2\n")]);
    let workspace = folder.open();
    let edit = block("a.txt", "x\n1\n", "y\n1\n") + &block("a.txt", "x\n2\n", "y\n2\n");
    let first = ids(&propose(&workspace, &NoDocuments, &edit));
    assert_eq!(first, ids(&propose(&workspace, &NoDocuments, &edit)));
    assert_eq!(first.len(), 2);
    assert_ne!(first[0], first[1]);
}

#[test]
fn edits_of_others_around_a_hunk_are_kept_and_inside_are_a_conflict() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "5\n", "five\n"));
    folder.write("a.txt", &ten_with(&[(4, "4\nnew\n"), (6, "new\n6\n")]));
    workspace
        .accept(&NoDocuments, &Choice::Proposal(proposal.id), None)
        .unwrap();
    let merged = ten_with(&[(4, "4\nnew\n"), (5, "five\n"), (6, "new\n6\n")]);
    assert_eq!(folder.read("a.txt"), merged);

    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "9\n", "nine\n"));
    let theirs = merged.replace("9\n", "9!\n");
    folder.write("a.txt", &theirs);
    let id = ids(&proposal)[0].clone();
    let refused = workspace.accept(&NoDocuments, &Choice::Proposal(proposal.id), None);
    let Err(EditError::Conflicts(conflicts)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(conflicts[0].hunks, [id]);
    assert_eq!(
        (
            &*conflicts[0].base,
            &*conflicts[0].current,
            &*conflicts[0].proposed
        ),
        ("9", "9!", "nine")
    );
    assert_eq!(folder.read("a.txt"), theirs);
}

#[test]
fn a_conflict_about_a_whole_file_names_the_hunks_of_that_file() {
    let folder = folder(&[("a.txt", &ten()), ("gone.txt", "gone\n")]);
    let workspace = folder.open();
    let patch = "*** Begin Patch\n*** Delete File: gone.txt\n*** Update File: a.txt\n@@\n 1\n-2\n+two\n 3\n*** End Patch\n";
    let proposal = propose(&workspace, &NoDocuments, patch);
    folder.write("gone.txt", "mine\n");
    let refused = workspace.accept(&NoDocuments, &Choice::Proposal(proposal.id.clone()), None);
    let Err(EditError::Conflicts(conflicts)) = refused else {
        panic!("{refused:?}")
    };
    let mut of_file = proposal
        .hunks()
        .filter(|(f, _)| f.path.as_str() == "gone.txt");
    let removal = of_file.next().unwrap().1.id.clone();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].hunks, [removal]);
}

#[test]
fn a_conflict_in_one_file_holds_back_all() {
    let folder = folder(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
    let workspace = folder.open();
    let answer = block("a.txt", "a\n", "A\n") + &block("b.txt", "b\n", "B\n");
    let proposal = propose(&workspace, &NoDocuments, &answer);
    folder.write("b.txt", "mine\n");
    assert!(
        workspace
            .accept(&NoDocuments, &Choice::Proposal(proposal.id), None)
            .is_err()
    );
    assert_eq!(
        (folder.read("a.txt"), folder.read("b.txt")),
        ("a\n".into(), "mine\n".into())
    );
}

#[test]
fn tokens_roll_back_in_any_order_and_forward_again() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let first = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let second = apply(&workspace, &block("a.txt", "8\n", "eight\n"));
    let redo = rollback(&workspace, &first)
        .unwrap()
        .rollback_token
        .unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(8, "eight\n")]));
    rollback(&workspace, &second).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    rollback(&workspace, &redo).unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
}

#[test]
fn the_last_edit_is_the_one_that_was_done_again_if_that_was_last() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let last = || workspace.last().unwrap().map(|entry| entry.token);
    let undo = |token: &Token| rollback(&workspace, token).unwrap().rollback_token.unwrap();
    assert_eq!(last(), None);
    let first = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let second = apply(&workspace, &block("a.txt", "8\n", "eight\n"));
    let undone = undo(&second);
    assert_eq!(last().as_ref(), Some(&first));
    let redone = undo(&undone);
    assert_eq!(last().as_ref(), Some(&redone));
    let undone = undo(&redone);
    assert_eq!(last().as_ref(), Some(&first));
    let redone = undo(&undone);
    undo(&first);
    assert_eq!(last().as_ref(), Some(&redone));
    undo(&redone);
    assert_eq!((last(), folder.read("a.txt")), (None, ten()));
}

#[test]
fn overlapping_edits_roll_back_only_newest_first() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let first = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let second = apply(&workspace, &block("a.txt", "two\n", "zwei\n"));
    assert!(matches!(
        rollback(&workspace, &first),
        Err(EditError::Conflicts(_))
    ));
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "zwei\n")]));
    rollback(&workspace, &second).unwrap();
    rollback(&workspace, &first).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
}

#[test]
fn rolling_back_twice_answers_the_same_and_does_it_once() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let token = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let outcome = rollback(&workspace, &token).unwrap();
    folder.write("a.txt", "mine\n");
    drop(workspace);
    let again = rollback(&folder.open(), &token).unwrap();
    assert_eq!(again.rollback_token, outcome.rollback_token);
    assert_eq!(folder.read("a.txt"), "mine\n");
}

#[test]
fn the_same_request_is_done_once() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    let choice = Choice::Proposal(proposal.id);
    let first = workspace
        .accept(&NoDocuments, &choice, Some("key"))
        .unwrap();
    folder.write("a.txt", "mine\n");
    let again = workspace
        .accept(&NoDocuments, &choice, Some("key"))
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(folder.read("a.txt"), "mine\n");
}

#[test]
fn a_request_that_changed_no_byte_is_done_once_too() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let proposal = propose(&workspace, &NoDocuments, &block("a.txt", "2\n", "two\n"));
    let choice = Choice::Hunks(ids(&proposal));
    let reject = |workspace: &Workspace| workspace.reject(&NoDocuments, &choice, Some("key"));
    let first = reject(&workspace).unwrap();
    assert_eq!(
        (&first.rollback_token, &first.hunks),
        (&None, &ids(&proposal))
    );
    assert!(workspace.has_done("key").unwrap());
    workspace.accept(&NoDocuments, &choice, None).unwrap();
    // It comes late, and is not done to what was accepted since.
    assert_eq!(reject(&workspace).unwrap(), first);
    drop(workspace);
    assert_eq!(reject(&folder.open()).unwrap(), first);
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
}

#[test]
fn the_rest_is_rolled_back_when_asked_for() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let answer = block("a.txt", "2\n", "two\n") + &block("a.txt", "8\n", "eight\n");
    let token = apply(&workspace, &answer);
    folder.write("a.txt", &folder.read("a.txt").replace("eight", "acht"));
    let take_back = |mode| workspace.rollback(&NoDocuments, token.as_str(), mode, Some("key"));
    let outcome = take_back(Mode::CleanOnly).unwrap();
    assert_eq!(outcome.conflicts.len(), 1);
    assert_eq!(folder.read("a.txt"), ten_with(&[(8, "acht\n")]));
    let states = || -> Vec<HunkState> {
        let listed = workspace.list();
        listed
            .iter()
            .flat_map(|p| p.hunks())
            .map(|(_, hunk)| hunk.state)
            .collect()
    };
    assert_eq!(states(), [HunkState::Rejected, HunkState::Accepted]);
    // Asked again, it tells the same.
    assert_eq!(take_back(Mode::CleanOnly).unwrap(), outcome);
    // What was left stands, until its lines are as they were.
    assert_eq!(workspace.last().unwrap().unwrap().token, token);
    assert!(matches!(
        rollback(&workspace, &token),
        Err(EditError::Conflicts(_))
    ));
    folder.write("a.txt", &ten_with(&[(8, "eight\n"), (10, "mine\n")]));
    rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(10, "mine\n")]));
    assert_eq!(states(), [HunkState::Rejected; 2]);
    assert_eq!(workspace.last().unwrap(), None);
}

#[test]
fn a_hunk_beside_a_conflict_is_none() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let answer = block("a.txt", "2\n", "two\n") + &block("a.txt", "4\n", "four\n");
    let token = apply(&workspace, &answer);
    let now = folder.read("a.txt");
    folder.write("a.txt", &now.replace("3\nfour\n", "drei\nvier\n"));
    let outcome = workspace.rollback(&NoDocuments, token.as_str(), Mode::CleanOnly, None);
    let (outcome, listed) = (outcome.unwrap(), workspace.list());
    let hunks: Vec<_> = listed.iter().flat_map(|p| p.hunks()).collect();
    assert_eq!(outcome.hunks, [hunks[0].1.id.clone()]);
    assert_eq!(hunks[1].1.state, HunkState::Accepted);
    let left = ten_with(&[(3, "drei\n"), (4, "vier\n")]);
    assert_eq!(folder.read("a.txt"), left);
}

#[test]
fn a_token_that_was_done_again_is_rolled_back_again() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let token = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let undone = rollback(&workspace, &token)
        .unwrap()
        .rollback_token
        .unwrap();
    rollback(&workspace, &undone).unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
    let again = rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(rollback(&workspace, &token).unwrap(), again);
    // And what took it back at first does it again, for it is out.
    rollback(&workspace, &undone).unwrap();
    assert_eq!(folder.read("a.txt"), ten_with(&[(2, "two\n")]));
}

#[test]
fn created_moved_and_removed_files_come_back() {
    let folder = folder(&[("old.txt", "one\ntwo\nthree\n"), ("gone.txt", "gone\n")]);
    let workspace = folder.open();
    let answer = "*** Begin Patch\n*** Add File: made/new.txt\n+new\n*** Delete File: gone.txt\n*** Update File: old.txt\n*** Move to: moved.txt\n@@\n one\n-two\n+2\n three\n*** End Patch\n";
    let token = apply(&workspace, answer);
    assert_eq!(folder.read("moved.txt"), "one\n2\nthree\n");
    assert!(!folder.has("old.txt") && !folder.has("gone.txt"));
    // What the user adds to the moved file goes back with it.
    folder.write("moved.txt", "one\n2\nthree\nmine\n");
    rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("old.txt"), "one\ntwo\nthree\nmine\n");
    assert_eq!(folder.read("gone.txt"), "gone\n");
    assert!(!folder.has("moved.txt") && !folder.has("made/new.txt"));
}

#[test]
fn directories_that_were_made_for_a_file_go_with_it_if_nothing_else_is_in_them() {
    let folder = folder(&[]);
    let workspace = folder.open();
    let answer = "*** Begin Patch\n*** Add File: made/in/new.txt\n+new\n*** End Patch\n";
    let token = apply(&workspace, answer);
    let undone = rollback(&workspace, &token)
        .unwrap()
        .rollback_token
        .unwrap();
    assert!(!folder.has("made"));
    let redone = rollback(&workspace, &undone)
        .unwrap()
        .rollback_token
        .unwrap();
    assert_eq!(folder.read("made/in/new.txt"), "new\n");
    folder.write("made/mine.txt", "mine\n");
    rollback(&workspace, &redone).unwrap();
    assert!(!folder.has("made/in") && folder.has("made/mine.txt"));
}

/// cline/cline#13550, #14367, #4255; anomalyco/opencode#33940, #46783, #3148;
/// anthropics/claude-code#68315: undo by resetting a tree takes other people's work with it.
#[test]
fn rollback_touches_no_file_but_its_own() {
    let folder = folder(&[("a.txt", &ten()), (".gitignore", "target\n")]);
    let workspace = folder.open();
    let token = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    folder.write("untracked.txt", "mine\n");
    folder.write(".gitignore", "target\nmine\n");
    folder.write("only_read.txt", "read\n");
    let other = apply(
        &workspace,
        &block("only_read.txt", "read\n", "other session\n"),
    );
    rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("a.txt"), ten());
    assert_eq!(folder.read("untracked.txt"), "mine\n");
    assert_eq!(folder.read(".gitignore"), "target\nmine\n");
    assert_eq!(folder.read("only_read.txt"), "other session\n");
    rollback(&workspace, &other).unwrap();
}

/// anomalyco/opencode#3148, zed-industries/zed#31617: undo deletes a file that the user has
/// written into since.
#[test]
fn a_created_file_that_the_user_edited_is_not_deleted() {
    let folder = folder(&[]);
    let workspace = folder.open();
    let answer = "*** Begin Patch\n*** Add File: new.txt\n+one\n+two\n*** End Patch\n";
    let token = apply(&workspace, answer);
    folder.write("new.txt", "one\ntwo\nmine\n");
    assert!(matches!(
        rollback(&workspace, &token),
        Err(EditError::Conflicts(_))
    ));
    assert_eq!(folder.read("new.txt"), "one\ntwo\nmine\n");
}

/// anomalyco/opencode#10287: undo restores contents that are weeks old.
#[test]
fn rollback_takes_lines_out_of_the_file_as_it_is_now() {
    let folder = folder(&[("a.txt", &ten())]);
    let workspace = folder.open();
    let token = apply(&workspace, &block("a.txt", "2\n", "two\n"));
    let rewritten = format!(
        "header\n{}footer\n",
        ten_with(&[(2, "two\n"), (9, "nine\n")])
    );
    folder.write("a.txt", &rewritten);
    rollback(&workspace, &token).unwrap();
    assert_eq!(folder.read("a.txt"), rewritten.replace("two\n", "2\n"));
}

/// A removed file that somebody made again is theirs.
#[test]
fn a_removed_file_that_is_there_again_is_left_alone() {
    let folder = folder(&[("a.txt", "a\n")]);
    let workspace = folder.open();
    let token = apply(
        &workspace,
        "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch\n",
    );
    folder.write("a.txt", "mine\n");
    assert!(matches!(
        rollback(&workspace, &token),
        Err(EditError::Conflicts(_))
    ));
    assert_eq!(folder.read("a.txt"), "mine\n");
}

#[test]
fn two_workspaces_on_one_folder_take_turns() {
    let folder = folder(&[("a.txt", &ten())]);
    std::thread::scope(|scope| {
        for line in 1..=8 {
            let folder = &folder;
            scope.spawn(move || {
                let workspace = folder.open();
                let edit = block("a.txt", &format!("{line}\n"), &format!("line {line}\n"));
                // Planned on a file that moves on under it, merged when it is written.
                let token = apply(&workspace, &edit);
                if line % 2 == 0 {
                    rollback(&workspace, &token).unwrap();
                }
            });
        }
    });
    let expected: String = (1..=10)
        .map(|n| match n % 2 == 1 && n <= 8 {
            true => format!("line {n}\n"),
            false => format!("{n}\n"),
        })
        .collect();
    assert_eq!(folder.read("a.txt"), expected);
}

/// Encodings and line ends come back byte for byte.
#[test]
fn bytes_outside_the_hunks_stay() {
    let utf16: Vec<u8> = "\u{feff}one\r\ntwö\r\nthree"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("crlf", b"one\r\ntwo\nthree\r\n".to_vec(), "two"),
        ("bom", b"\xEF\xBB\xBFone\ntwo  \nthree".to_vec(), "two  "),
        ("latin1", b"one \xE9\ntwo\nthree\xFF".to_vec(), "two"),
        ("utf16", utf16, "twö"),
        ("cr", b"one\r\rtwo\rthree".to_vec(), "two"),
    ];
    for (name, bytes, old) in files {
        let folder = folder(&[]);
        fs::write(folder.root.join(name), &bytes).unwrap();
        let workspace = folder.open();
        let token = apply(&workspace, &block(name, &format!("{old}\n"), "2\n"));
        let applied = fs::read(folder.root.join(name)).unwrap();
        assert_ne!(applied, bytes, "{name}");
        let n_same_end = bytes
            .iter()
            .rev()
            .zip(applied.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        let n_same_start = bytes
            .iter()
            .zip(&applied)
            .take_while(|(a, b)| a == b)
            .count();
        let n_old = if name == "utf16" {
            2 * old.encode_utf16().count()
        } else {
            old.len()
        };
        assert!(
            n_same_start + n_same_end + n_old >= bytes.len(),
            "{name}: {applied:?}"
        );
        rollback(&workspace, &token).unwrap();
        assert_eq!(fs::read(folder.root.join(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn buffers_and_files_change_together_or_not_at_all() {
    let files = [
        ("a.txt", "disk a\n"),
        ("b.txt", "old b\n"),
        ("c.txt", "disk c\n"),
    ];
    let open = [("a.txt", "old a\nunsaved\n"), ("b.txt", "old b\n")];
    let answer = block("a.txt", "old a\n", "new a\n")
        + &block("b.txt", "old b\n", "new b\n")
        + &block("c.txt", "disk c\n", "new c\n");
    for manner in [
        Manner::Honest,
        Manner::Refuses,
        Manner::Lies,
        Manner::Partial,
        Manner::Vanishes,
    ] {
        let folder = folder(&files);
        let workspace = folder.open();
        let editor = Editor::with(manner, &open);
        let proposal = propose(&workspace, &editor, &answer);
        let done = workspace.accept(&editor, &Choice::Proposal(proposal.id), None);
        assert_eq!(
            done.is_ok(),
            manner == Manner::Honest,
            "{manner:?}: {done:?}"
        );
        // A file that is open changes in the editor alone; saving is the user's.
        assert_eq!(folder.read("a.txt"), "disk a\n");
        assert_eq!(folder.read("b.txt"), "old b\n");
        if manner == Manner::Honest {
            assert_eq!(editor.text("a.txt"), "new a\nunsaved\n");
            assert_eq!(editor.text("b.txt"), "new b\n");
            assert_eq!(folder.read("c.txt"), "new c\n");
        } else {
            assert_eq!(folder.read("c.txt"), "disk c\n", "{manner:?}");
            assert_eq!(editor.text("b.txt"), "old b\n", "{manner:?}");
            if manner != Manner::Vanishes {
                assert_eq!(editor.text("a.txt"), "old a\nunsaved\n", "{manner:?}");
            }
        }
        assert_eq!(
            fs::read_dir(&folder.root).unwrap().count(),
            3,
            "nothing is left over"
        );
    }
}

#[test]
fn a_buffer_that_was_edited_and_saved_since_is_rolled_back_on_the_disk() {
    let folder = folder(&[("a.txt", "\u{feff}1\r\n2\r\n3\r\n")]);
    let workspace = folder.open();
    // The editor shows the text without the mark and with its own line ends.
    let editor = Editor::with(Manner::Honest, &[("a.txt", "1\n2\n3\n")]);
    let proposal = propose(&workspace, &editor, &block("a.txt", "2\n", "two\n"));
    let outcome = workspace
        .accept(&editor, &Choice::Proposal(proposal.id), None)
        .unwrap();
    folder.write("a.txt", "\u{feff}1\r\ntwo\r\n3\r\nmine\r\n");
    rollback(&workspace, &outcome.rollback_token.unwrap()).unwrap();
    assert_eq!(folder.read("a.txt"), "\u{feff}1\r\n2\r\n3\r\nmine\r\n");
}

#[test]
fn a_file_that_was_removed_or_moved_while_open_comes_back() {
    let folder = folder(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
    let workspace = folder.open();
    let editor = Editor::with(Manner::Honest, &[("a.txt", "a\n"), ("b.txt", "b\n")]);
    let answer = "*** Begin Patch\n*** Delete File: a.txt\n*** Update File: b.txt\n*** Move to: c.txt\n@@\n-b\n+c\n*** End Patch\n";
    let proposal = propose(&workspace, &editor, answer);
    let done = workspace.accept(&editor, &Choice::Proposal(proposal.id), None);
    let token = done.unwrap().rollback_token.unwrap();
    assert!(!folder.has("a.txt") && !folder.has("b.txt"));
    assert_eq!(folder.read("c.txt"), "c\n");
    let undone = workspace.rollback(&editor, token.as_str(), Mode::AllOrNothing, None);
    undone.unwrap();
    assert_eq!(
        (folder.read("a.txt"), folder.read("b.txt")),
        ("a\n".into(), "b\n".into())
    );
    assert!(!folder.has("c.txt"));
}

#[test]
fn removing_a_file_with_unsaved_changes_is_refused() {
    let folder = folder(&[("a.txt", "a\n")]);
    let workspace = folder.open();
    let editor = Editor::with(Manner::Honest, &[("a.txt", "a\nunsaved\n")]);
    let proposal = propose(
        &workspace,
        &editor,
        "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch\n",
    );
    let refused = workspace.accept(&editor, &Choice::Proposal(proposal.id), None);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(folder.read("a.txt"), "a\n");
}
