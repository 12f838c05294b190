//! Crashes, failing disks and documents that do not do as they are told, at every step.

mod power;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::edit::journal::Kind;
use crate::edit::rollback::Mode;
use crate::edit::worlds::NoDocuments;

/// Names the test that is run again as a child, and tells it what to do.
const CHILD: &str = "PAIRWRIGHT_TEST_CRASH_CHILD";

/// Files below `root`: bytes and mode by path, our own temporary files included.
pub(crate) fn tree_of(root: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                files.insert(format!("{name}/"), (Vec::new(), 0));
                directories.push(path);
            } else {
                files.insert(name, (fs::read(&path).unwrap(), found.mode() & 0o7777));
            }
        }
    }
    files
}

fn path(name: &str) -> RepoPath {
    RepoPath::parse(name).unwrap()
}

fn image(text: &str, mode: u32) -> Option<Image> {
    Some(Image {
        bytes: text.into(),
        mode,
    })
}

/// A folder of every kind of file an edit can meet.
fn fill(root: &Path, n_files: usize) {
    fs::create_dir_all(root.join("src")).unwrap();
    for idx in 0..n_files {
        let file = root.join(format!("src/f{idx}.txt"));
        fs::write(&file, format!("one {idx}\r\ntwo\r\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::write(root.join("doomed.txt"), "goes away\n").unwrap();
    fs::write(root.join("moves.txt"), "moves\n").unwrap();
    fs::write(root.join("linked.txt"), "a\n".repeat(2000)).unwrap();
    fs::hard_link(root.join("linked.txt"), root.join("same.txt")).unwrap();
    for name in ["doomed.txt", "moves.txt", "linked.txt"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// Changes, creates, deletes, moves, and writes a linked file in place.
fn wanted(n_files: usize) -> Vec<Wanted> {
    let change = |path: RepoPath, before, after| Wanted {
        path,
        moved_from: None,
        before,
        after,
    };
    let mut wanted: Vec<Wanted> = (0..n_files)
        .map(|idx| {
            change(
                path(&format!("src/f{idx}.txt")),
                image(&format!("one {idx}\r\ntwo\r\n"), 0o640),
                image(&format!("ONE {idx}\r\ntwo\r\nthree"), 0o640),
            )
        })
        .collect();
    wanted.push(change(
        path("new/deep/file.txt"),
        None,
        image("new\n", 0o644),
    ));
    wanted.push(change(
        path("doomed.txt"),
        image("goes away\n", 0o644),
        None,
    ));
    wanted.push(Wanted {
        moved_from: Some(path("moves.txt")),
        ..change(path("moved/here.txt"), None, image("moved\n", 0o755))
    });
    wanted.push(change(path("moves.txt"), image("moves\n", 0o644), None));
    wanted.push(change(
        path("linked.txt"),
        image(&"a\n".repeat(2000), 0o644),
        image(&"bb\n".repeat(1500), 0o644),
    ));
    wanted
}

fn purpose() -> Purpose {
    Purpose {
        kind: Kind::Apply,
        author: "test".into(),
        proposal: None,
        hunks: Vec::new(),
        undoes: None,
        conflicts: Vec::new(),
        request: None,
    }
}

fn apply(workspace: &Workspace, n_files: usize) -> Result<Token, Failure> {
    commit(workspace, &NoDocuments, &purpose(), wanted(n_files), &[])
}

/// A folder and a state directory.
struct Folder {
    _directory: tempfile::TempDir,
    root: std::path::PathBuf,
    state: std::path::PathBuf,
}

fn place(n_files: usize) -> Folder {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("work");
    let state = directory.path().join("state");
    fs::create_dir(&root).unwrap();
    fill(&root, n_files);
    Folder {
        _directory: directory,
        root,
        state,
    }
}

impl Folder {
    fn open(&self) -> Workspace {
        Workspace::open(&self.root, &self.state).unwrap()
    }
}

/// What the child process does before it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Apply,
    Rollback,
    /// Finishing what an earlier crash at this step left.
    Recover,
}

/// Runs this test binary again to do `deed` in `place`, killed at step number `at`; `false` when
/// it came to its end before that.
#[expect(
    clippy::disallowed_methods,
    reason = "a crash needs a process of its own"
)]
fn crash(place: &Folder, deed: Deed, n_files: usize, at: usize) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--quiet", "--nocapture", &test_name()])
        .env(
            CHILD,
            format!(
                "{deed:?}\n{n_files}\n{at}\n{}\n{}",
                place.root.display(),
                place.state.display()
            ),
        )
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert!(
        status.success() || status.signal() == Some(9),
        "the child ended with {status}"
    );
    !status.success()
}

fn test_name() -> String {
    let module = module_path!();
    let (_, module) = module.split_once("::").unwrap();
    format!("{module}::child_that_is_killed")
}

/// Not a test of its own: what [`crash`] starts.
#[test]
fn child_that_is_killed() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let mut what = what.lines();
    let mut next = || what.next().unwrap();
    let (deed, n_files, at) = (
        next(),
        next().parse().unwrap(),
        next().parse::<usize>().unwrap(),
    );
    let (root, state) = (next(), next());
    let kill_at = |at: usize| {
        let mut n_steps = 0;
        faults::set(Some(Box::new(move |_| {
            n_steps += 1;
            if n_steps > at {
                let this = rustix::process::getpid();
                rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
                std::thread::park();
            }
            Ok(())
        })));
    };
    if deed == "Recover" {
        kill_at(at);
    }
    let workspace = Workspace::open(root.as_ref(), state.as_ref()).unwrap();
    match deed {
        "Apply" => {
            kill_at(at);
            apply(&workspace, n_files).unwrap();
        }
        "Rollback" => {
            let token = workspace.last().unwrap().unwrap().token;
            kill_at(at);
            workspace
                .rollback(&NoDocuments, token.as_str(), Mode::AllOrNothing, None)
                .unwrap();
        }
        _ => {}
    }
    faults::set(None);
}

/// Crashes at each step in turn and looks at what the next start makes of it.
fn crash_everywhere(deed: Deed, n_files: usize) {
    let mut n_points = 0;
    for at in 0.. {
        let place = place(n_files);
        let original = tree_of(&place.root);
        let workspace = place.open();
        let token = apply(&workspace, n_files).unwrap();
        let applied = tree_of(&place.root);
        if deed != Deed::Rollback {
            let undone = workspace.rollback(&NoDocuments, token.as_str(), Mode::AllOrNothing, None);
            undone.unwrap();
            let mut back = tree_of(&place.root);
            // Directories that others may use by now stay.
            back.retain(|name, _| !name.ends_with('/') || original.contains_key(name));
            assert_eq!(back, original, "rolling back gives every byte back");
        }
        drop(workspace);
        let (from, to) = match deed {
            Deed::Rollback => (applied.clone(), original.clone()),
            Deed::Apply | Deed::Recover => (original.clone(), applied.clone()),
        };
        let was_killed = match deed {
            Deed::Recover => {
                // Cut off late in the applying, then in the recovery.
                assert!(crash(&place, Deed::Apply, n_files, 2 * n_files + 9));
                crash(&place, Deed::Recover, n_files, at)
            }
            deed => crash(&place, deed, n_files, at),
        };
        let recovered = place.open();
        drop(recovered);
        let mut now = tree_of(&place.root);
        now.retain(|name, _| {
            !name.ends_with('/') || from.contains_key(name) && to.contains_key(name)
        });
        let files = |tree: &BTreeMap<String, (Vec<u8>, u32)>| {
            let mut tree = tree.clone();
            tree.retain(|name, _| {
                !name.ends_with('/') || from.contains_key(name) && to.contains_key(name)
            });
            tree
        };
        let is_before = now == files(&from);
        let is_after = now == files(&to);
        assert!(
            is_before || is_after,
            "{deed:?} of {n_files} files killed at step {at} is neither before nor after: {:?}",
            now.keys().collect::<Vec<_>>()
        );
        if deed == Deed::Recover {
            assert!(is_before, "what was cut off is taken back");
        }
        if !was_killed {
            assert!(deed == Deed::Recover || is_after);
            break;
        }
        n_points += 1;
    }
    assert!(n_points > n_files, "only {n_points} points were reached");
}

#[test]
fn a_kill_at_any_step_of_applying_leaves_all_or_nothing() {
    for n_files in [1, 3] {
        crash_everywhere(Deed::Apply, n_files);
    }
}

#[test]
fn a_kill_at_any_step_of_rolling_back_leaves_all_or_nothing() {
    crash_everywhere(Deed::Rollback, 2);
}

#[test]
fn a_kill_at_any_step_of_recovery_is_recovered_from() {
    crash_everywhere(Deed::Recover, 2);
}

/// The full matrix; minutes rather than seconds.
#[test]
fn a_kill_at_any_step_with_up_to_ten_files_leaves_all_or_nothing() {
    if std::env::var_os("PAIRWRIGHT_LONG_TESTS").is_none() {
        return;
    }
    for n_files in 1..=10 {
        for deed in [Deed::Apply, Deed::Rollback, Deed::Recover] {
            crash_everywhere(deed, n_files);
        }
    }
}

#[test]
fn an_error_of_the_disk_at_any_step_changes_nothing() {
    use rustix::io::Errno;
    for errno in [
        Errno::NOSPC,
        Errno::IO,
        Errno::ACCESS,
        Errno::ROFS,
        Errno::DQUOT,
    ] {
        for at in 0.. {
            let place = place(2);
            let workspace = place.open();
            let original = tree_of(&place.root);
            let mut n_steps = 0;
            let was_hit = std::rc::Rc::new(std::cell::Cell::new(None));
            let hit = std::rc::Rc::clone(&was_hit);
            faults::set(Some(Box::new(move |step| {
                n_steps += 1;
                if n_steps == at + 1 {
                    hit.set(Some(step));
                    return Err(io::Error::from(errno));
                }
                Ok(())
            })));
            let done = apply(&workspace, 2);
            faults::set(None);
            let Some(step) = was_hit.get() else {
                done.unwrap();
                break;
            };
            if step == Step::Unlink {
                // Only what is swept up after the end.
                done.unwrap();
                drop(workspace);
                place.open();
                assert!(tree_of(&place.root).keys().all(|name| !name.contains('~')));
                continue;
            }
            let why = done.unwrap_err();
            assert!(
                !matches!(why, Failure::HalfWay { .. }),
                "{step:?} at {at}: {why}"
            );
            if !matches!(step, Step::Begin | Step::End) {
                assert!(why.to_string().contains(".txt"), "names no file: {why}");
            }
            assert_eq!(tree_of(&place.root), original, "{step:?} at {at}: {why}");
        }
    }
}

#[test]
fn a_failure_while_taking_back_is_finished_at_the_next_start() {
    let place = place(2);
    let workspace = place.open();
    let original = tree_of(&place.root);
    let mut n_swaps = 0;
    faults::set(Some(Box::new(move |step| {
        n_swaps += usize::from(step == Step::Swap);
        match n_swaps {
            2.. => Err(io::Error::from(rustix::io::Errno::IO)),
            _ => Ok(()),
        }
    })));
    let why = apply(&workspace, 2).unwrap_err();
    faults::set(None);
    assert!(matches!(why, Failure::HalfWay { .. }), "{why}");
    drop(workspace);
    place.open();
    assert_eq!(tree_of(&place.root), original);
}

#[test]
fn a_write_that_comes_between_is_kept() {
    let place = place(1);
    let workspace = place.open();
    let file = place.root.join("src/f0.txt");
    let theirs = file.clone();
    faults::set(Some(Box::new(move |step| {
        if step == Step::Swap {
            fs::write(&theirs, "somebody else\n").unwrap();
        }
        Ok(())
    })));
    let why = apply(&workspace, 1).unwrap_err();
    faults::set(None);
    let Failure::Foreign { why, left } = why else {
        panic!("{why}")
    };
    assert!(
        matches!(*why, Failure::Disk(DiskError::Moved { .. })),
        "{why}"
    );
    assert_eq!(left, [path("src/f0.txt")]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "somebody else\n");
    assert!(place.root.join("doomed.txt").exists());
    assert!(!place.root.join("new").exists());
}

#[test]
fn hard_links_stay_one_file() {
    let place = place(1);
    apply(&place.open(), 1).unwrap();
    let (one, other) = (place.root.join("linked.txt"), place.root.join("same.txt"));
    assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
    assert_eq!(fs::metadata(&one).unwrap().nlink(), 2);
}

#[test]
fn a_read_only_file_is_refused() {
    let place = place(1);
    let file = place.root.join("src/f0.txt");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let original = tree_of(&place.root);
    let why = apply(&place.open(), 1).unwrap_err();
    assert!(
        matches!(why, Failure::Disk(DiskError::ReadOnly { .. })),
        "{why}"
    );
    assert_eq!(tree_of(&place.root), original);
}

#[test]
fn two_names_of_one_file_are_refused() {
    let place = place(1);
    let original = tree_of(&place.root);
    let text = "a\n".repeat(2000);
    let both = ["linked.txt", "same.txt"].map(|name| Wanted {
        path: path(name),
        moved_from: None,
        before: image(&text, 0o644),
        after: image("b\n", 0o644),
    });
    let why = commit(&place.open(), &NoDocuments, &purpose(), both.to_vec(), &[]).unwrap_err();
    assert!(matches!(why, Failure::SameFile { .. }), "{why}");
    assert_eq!(tree_of(&place.root), original);
}
