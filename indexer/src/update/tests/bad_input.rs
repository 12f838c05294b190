//! What file systems, clocks and git can do to an index.

use std::{
    fs::{self, File},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use super::{TEXTS, Workspace, portrait, seen, settle};
use crate::ContentHash;

#[test]
fn a_file_replaced_while_it_is_read_ends_as_it_is_on_disk() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let index = workspace.settled();
    let path = workspace.path("a.rs");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300 {
                // In place, so that a reader can meet half of it; and shorter each time.
                let body = "beta(); ".repeat(2_000 - 5 * n);
                fs::write(&path, format!("fn version_{n}() {{ {body} }}\n")).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            index.changed([path.clone()]);
            seen(&index);
        }
    });
    settle(&index);
    assert_eq!(index.reader().definitions_of("version_299").len(), 1);
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
}

#[test]
fn a_clock_that_is_wrong_does_not_hide_a_change() {
    let workspace = Workspace::new(&[("a.rs", "fn before() {}\n"), ("b.rs", TEXTS[1])]);
    let days = Duration::from_secs(10 * 86_400);
    for time in [SystemTime::now() + days, SystemTime::UNIX_EPOCH - days] {
        let touch = |text: &str| {
            workspace.write("a.rs", text);
            let file = File::options()
                .append(true)
                .open(workspace.path("a.rs"))
                .unwrap();
            file.set_modified(time).unwrap();
        };
        touch("fn before() {}\n");
        let index = workspace.settled();
        assert_eq!(index.reader().definitions_of("before").len(), 1, "{time:?}");
        // Same size, same time: only a time ahead of the clock says that it cannot be trusted.
        if time > SystemTime::now() {
            touch("fn behind() {}\n");
        } else {
            touch("fn behind () {}\n");
        }
        settle(&index);
        assert_eq!(index.reader().definitions_of("behind").len(), 1, "{time:?}");
        assert!(index.reader().definitions_of("before").is_empty());
    }
}

#[test]
fn a_rebase_that_stopped_is_a_state_like_any_other() {
    let workspace = Workspace::new(&[("a.rs", "fn one() {}\n")]);
    workspace.git(&["init", "-q", "-b", "main"]);
    workspace.commit("one");
    workspace.git(&["checkout", "-q", "-b", "side"]);
    workspace.write("a.rs", "fn side() {}\n");
    workspace.commit("side");
    workspace.git(&["checkout", "-q", "main"]);
    workspace.write("a.rs", "fn two() {}\n");
    workspace.commit("two");
    workspace.git(&["checkout", "-q", "side"]);
    let index = workspace.settled();
    assert_eq!(index.status().head.branch.as_deref(), Some("side"));
    assert!(!workspace.try_git(&["rebase", "-q", "main"]));
    settle(&index);
    let status = index.status();
    assert!(
        status.head.commit.is_some() && status.n_commits >= 2,
        "{status:?}"
    );
    assert_eq!(status.n_faults, 0, "{:?}", status.faults);
    let on_disk = fs::read(workspace.path("a.rs")).unwrap();
    assert!(on_disk.starts_with(b"<<<<<<<"));
    let shown = index.reader().content_hash(&"a.rs".into());
    assert_eq!(shown, Some(ContentHash::of(&on_disk)));
    workspace.git(&["rebase", "--abort"]);
    settle(&index);
    assert_eq!(index.reader().definitions_of("side").len(), 1);
}

#[test]
fn more_changes_than_can_be_remembered_become_one_look_at_everything() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    for n in 0..2_000 {
        workspace.write(&format!("many/{}/{n}.rs", n % 40), "");
    }
    let index = workspace.settled();
    workspace.write("a.rs", TEXTS[1]);
    index.changed((0..25_000).map(|n| workspace.path(format!("gone/{n}.rs"))));
    settle(&index);
    assert_eq!(index.reader().definitions_of("gamma").len(), 1);
    assert_eq!(index.reader().n_files(), 2_001);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_a_fault_and_no_more() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("locked.rs", TEXTS[1])]);
    let path = workspace.path("locked.rs");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        // The superuser may read everything.
        return;
    }
    let index = workspace.settled();
    let status = index.status();
    assert_eq!(status.faults.len(), 1);
    assert_eq!(status.faults[0].path, "locked.rs");
    assert_eq!(index.reader().definitions_of("alpha").len(), 1);
    assert!(index.reader().definitions_of("gamma").is_empty());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    index.changed([path]);
    settle(&index);
    assert_eq!(index.status().n_faults, 0);
    assert_eq!(index.reader().definitions_of("gamma").len(), 1);
}
