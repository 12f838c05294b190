//! A disk that refuses, and what becomes of it.

use super::*;

#[track_caller]
fn wait_for_fault(index: &Index, of: &str) {
    let is_there = |state: &State| {
        let faults = &state.status.faults;
        faults.iter().any(|fault| fault.message.contains(of))
    };
    assert!(index.wait(soon(), is_there), "{of}: {:?}", index.status());
}

#[test]
fn a_disk_that_refuses_keeps_answers_in_memory_and_is_tried_again() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let index = workspace.settled();
    let dir = Index::footprint(workspace.cache.path(), workspace.dir.path()).dir;
    // A folder where the new manifest is to be written fails as a full disk does.
    fs::create_dir(dir.join("manifest.new")).unwrap();
    workspace.write("b.rs", TEXTS[1]);
    index.changed([workspace.path("b.rs")]);
    assert!(index.wait_until_seen(soon()));
    index.inbox.settle();
    wait_for_fault(&index, "manifest");
    assert_ne!(index.status().phase, Phase::Ready);
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
    drop(index);
    fs::remove_dir(dir.join("manifest.new")).unwrap();
    let index = workspace.settled();
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
    assert_eq!(index.status().n_faults, 0);
}

#[test]
fn an_index_that_cannot_be_opened_again_stays_with_its_process_until_it_can() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let index = workspace.settled();
    let dir = Index::footprint(workspace.cache.path(), workspace.dir.path()).dir;
    let (units, kept) = (dir.join("units.log"), dir.join("units.kept"));
    fs::create_dir(dir.join("manifest.new")).unwrap();
    fs::rename(&units, &kept).unwrap();
    fs::create_dir(&units).unwrap();
    workspace.write("b.rs", TEXTS[1]);
    index.changed([workspace.path("b.rs")]);
    index.inbox.settle();
    wait_for_fault(&index, "units.log");
    for text in &TEXTS[..3] {
        index.buffer_changed(&workspace.path("a.rs"), (*text).into());
        seen(&index);
        assert_eq!(index.status().role, Role::Writer);
    }
    index.buffer_closed(&workspace.path("a.rs"));
    seen(&index);
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
    fs::remove_dir(&units).unwrap();
    fs::rename(&kept, &units).unwrap();
    fs::remove_dir(dir.join("manifest.new")).unwrap();
    settle(&index);
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
    assert_eq!(index.status().faults, []);
}

#[test]
fn an_index_that_is_removed_while_it_is_open_is_made_again() {
    for n_files in [2, 500] {
        let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
        let (tell, heard) = mpsc::channel();
        let index = Index::open(Options {
            on_change: Box::new(move |paths| _ = tell.send(paths.to_vec())),
            ..workspace.options()
        });
        let index = index.unwrap();
        settle(&index);
        _ = heard.try_iter().count();
        let dir = Index::footprint(workspace.cache.path(), workspace.dir.path()).dir;
        fs::remove_dir_all(dir).unwrap();
        for n in 0..n_files {
            workspace.write(&format!("{n}.rs"), format!("fn name_{n}() {{}}\n"));
        }
        index.changed((0..n_files).map(|n| workspace.path(format!("{n}.rs"))));
        assert!(index.wait_until_settled(soon()), "{:?}", index.status());
        let told = heard.try_iter().flatten();
        let of_new = told.filter(|path| path.as_str() != "a.rs").count();
        assert_eq!(of_new, n_files, "each is told once");
        assert_eq!(portrait(&index.reader()), workspace.built_anew());
        assert_eq!(index.status().faults, []);
        drop(index);
        assert_eq!(portrait(&workspace.open().reader()), workspace.built_anew());
    }
}

#[test]
fn a_history_that_could_not_be_written_is_no_fault_once_it_is() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    workspace.git(&["init", "-q", "-b", "main"]);
    workspace.commit("one");
    let index = workspace.settled();
    let dir = Index::footprint(workspace.cache.path(), workspace.dir.path()).dir;
    fs::remove_dir_all(&dir).unwrap();
    workspace.commit("two");
    index.rescan();
    wait_for_fault(&index, "history");
    workspace.write("b.rs", TEXTS[1]);
    settle(&index);
    assert_eq!(index.status().faults, []);
    assert!(dir.join("history").is_file());
}
