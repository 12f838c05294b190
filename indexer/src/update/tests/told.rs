//! What editors and the watcher tell, and what is told of it.

use super::*;

#[test]
fn what_is_typed_is_seen_before_what_is_saved() {
    let workspace = Workspace::new(&[("a.rs", "fn before() {}\n"), ("b.rs", TEXTS[1])]);
    let index = workspace.settled();
    let names = |index: &Index| {
        let unit = index.reader().unit(&"a.rs".into()).unwrap();
        unit.definitions[0].name.clone()
    };
    index.buffer_changed(&workspace.path("a.rs"), "fn typed() {}\n".into());
    assert!(index.wait_until_seen(soon()));
    assert_eq!(names(&index), "typed");
    assert!(index.reader().definitions_of("before").is_empty());
    workspace.write("a.rs", "fn saved_by_another() {}\n");
    settle(&index);
    assert_eq!(names(&index), "typed");
    index.buffer_closed(&workspace.path("a.rs"));
    settle(&index);
    assert_eq!(names(&index), "saved_by_another");
    let reader = index.reader();
    let text = "let shared: Shared = 1;\n";
    let query = CursorQuery {
        path: &"new.rs".into(),
        text,
        cursor: text.len(),
        limit: 4,
        budget: Tokens(400),
        until: None,
    };
    let near = reader.files_near(&query);
    assert_eq!(near[0].path.as_str(), "b.rs");
}

/// An editor names files as it was told to name the folder.
#[cfg(unix)]
#[test]
fn a_folder_opened_through_a_link_is_told_of_by_that_name() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("b.rs", TEXTS[1])]);
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("link");
    std::os::unix::fs::symlink(workspace.dir.path(), &link).unwrap();
    let index = Index::open(Options {
        root: link.clone(),
        ..workspace.options()
    });
    let index = index.unwrap();
    settle(&index);
    let names = |name: &str| index.reader().definitions_of(name).len();
    for root in [link.as_path(), workspace.dir.path()] {
        index.buffer_changed(&root.join("a.rs"), "fn typed() {}\n".into());
        seen(&index);
        assert_eq!(names("typed"), 1, "{}", root.display());
        index.buffer_closed(&root.join("a.rs"));
        seen(&index);
        assert_eq!((names("typed"), names("alpha")), (0, 1));
        workspace.write("b.rs", format!("fn saved() {{}} // {}\n", root.display()));
        index.changed([root.join("b.rs")]);
        seen(&index);
        assert_eq!(names("saved"), 1, "{}", root.display());
        workspace.write("b.rs", TEXTS[1]);
        index.changed([Path::new("b.rs").to_owned()]);
        seen(&index);
        assert_eq!(names("saved"), 0);
    }
}

#[test]
fn closing_a_buffer_that_was_not_saved_writes_nothing() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("b.rs", TEXTS[1])]);
    let path = workspace.path("a.rs");
    // What was changed just now is looked at again, for it could have changed once more since.
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    for path in [&path, &workspace.path("b.rs")] {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let index = workspace.settled();
    let before = index.status().generation;
    index.buffer_changed(&path, "fn typed() {}\n".into());
    index.buffer_closed(&path);
    settle(&index);
    assert_eq!(index.status().generation, before);
    assert!(index.reader().definitions_of("typed").is_empty());
    workspace.write("a.rs", "fn saved() {}\n");
    index.changed([path]);
    settle(&index);
    assert_eq!(index.status().generation, before + 1);
}

#[test]
fn closing_what_was_never_shown_looks_at_nothing() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let index = workspace.settled();
    workspace.write("untold.rs", TEXTS[1]);
    index.buffer_closed(&workspace.path("untold.rs"));
    seen(&index);
    assert_eq!(index.status().n_files, 1);
}

#[test]
fn changes_nobody_tells_of_are_found_by_watching() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let (tell, told) = mpsc::channel();
    let index = Index::open(Options {
        watch: Watching::On,
        on_status: Box::new(move |status| _ = tell.send(status.n_files)),
        ..workspace.options()
    });
    let index = index.unwrap();
    settle(&index);
    workspace.write("new/folder/b.rs", "fn fresh_name() {}\n");
    while told.recv_timeout(Duration::from_secs(60)).unwrap() != 2 {}
    fs::remove_dir_all(workspace.path("new")).unwrap();
    while told.recv_timeout(Duration::from_secs(60)).unwrap() != 1 {}
}

#[test]
fn new_folders_that_are_ignored_cost_no_look_at_everything() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), (".gitignore", "target/\n")]);
    let index = workspace.settled();
    workspace.write("untold.rs", TEXTS[1]);
    workspace.write("target/debug/deps/made.rs", TEXTS[2]);
    index.changed(["target", "target/debug", "target/debug/deps"].map(|f| workspace.path(f)));
    seen(&index);
    assert_eq!(index.status().n_files, 2, "looked at everything");
    workspace.write("folder/b.rs", TEXTS[2]);
    index.changed([workspace.path("folder")]);
    seen(&index);
    assert_eq!(index.status().n_files, 4);
}

#[test]
fn what_changes_on_disk_is_told_and_what_was_there_or_is_ignored_is_not() {
    let workspace = Workspace::new(&[("a.rs", "fn a() {}\n"), (".gitignore", "target/\n")]);
    let (tell, heard) = mpsc::channel();
    let index = Index::open(Options {
        on_change: Box::new(move |paths| _ = tell.send(paths.to_vec())),
        ..workspace.options()
    });
    let index = index.unwrap();
    let told = || -> BTreeSet<String> { heard.try_iter().flatten().map(String::from).collect() };
    assert!(index.wait_until_settled(soon()), "{:?}", index.status());
    assert_eq!(told(), BTreeSet::new());
    workspace.write("a.rs", "fn b() {}\n");
    workspace.write("target/c.rs", "fn c() {}\n");
    index.changed([workspace.path("a.rs"), workspace.path("target/c.rs")]);
    seen(&index);
    assert_eq!(told(), BTreeSet::from(["a.rs".to_owned()]));
    // What nobody told of.
    fs::remove_file(workspace.path("a.rs")).unwrap();
    workspace.write("new/d.rs", "fn d() {}\n");
    settle(&index);
    let told = told();
    assert!(
        told.contains("a.rs") && told.contains("new/d.rs"),
        "{told:?}"
    );
    assert!(!told.contains("target/c.rs"), "{told:?}");
}
