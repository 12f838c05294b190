use super::*;
use crate::repo::tests::git;

/// A repository made by git itself, and a place for a working tree.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(stage.user()).unwrap();
        stage.git(&["init", "-q", "-b", "main"]);
        stage.write("sub/a.txt", b"one\n");
        stage.write("sub/b.bin", &[0, 255, 13, 10]);
        stage.write("run.sh", b"#!/bin/sh\n");
        stage.git(&["add", "-A"]);
        stage.git(&["update-index", "--chmod=+x", "run.sh"]);
        stage.git(&["commit", "-q", "-m", "First"]);
        stage.git(&["checkout", "-q", "-f", "main"]);
        stage
    }

    fn user(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("state/worktrees/t_1")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.user().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.user(), arguments, b"")
    }

    fn create(&self) -> Result<Worktree> {
        Worktree::create(&self.user(), &self.at(), "agent/t_1")
    }

    /// All that is the user's: files, index, HEAD, branches.
    fn state(&self) -> Vec<String> {
        let git = |arguments: &[&str]| self.git(arguments);
        vec![
            git(&["status", "--short", "--branch"]),
            git(&["ls-files", "--stage"]),
            git(&["rev-parse", "HEAD"]),
            git(&["stash", "list"]),
            git(&["config", "--list", "--local"]),
            git(&["for-each-ref", "--exclude=refs/heads/agent/*"]),
            fs::read_to_string(self.user().join("sub/a.txt")).unwrap(),
        ]
    }
}

fn change(path: &str, before: Option<&str>, after: Option<&str>) -> Change {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    Change {
        path: path.to_owned(),
        before: bytes(before),
        after: bytes(after),
        executable: false,
    }
}

const MESSAGE: Message<'_> = Message {
    run: "t_1",
    title: "Mend\nit <now>",
    body: "It was broken.\nAgent-Run: t_2\n",
    trailers: &[("Agent-Model", "m\nAgent-Run: t_3")],
    author: "Pairwright",
};

#[test]
fn a_working_tree_is_what_git_makes_of_one_and_the_users_is_untouched() {
    let stage = Stage::new();
    std::os::unix::fs::symlink("../run.sh", stage.user().join("sub/link")).unwrap();
    stage.write("é/ü.txt", b"x\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-q", "-m", "Second"]);
    stage.write("sub/a.txt", b"not committed\n");
    let before = stage.state();
    let made = stage.create().unwrap();
    assert_eq!(stage.state(), before);
    let git = |arguments: &[&str]| git(&made.top, arguments, b"");
    assert_eq!(git(&["status", "--short", "--branch"]), "## agent/t_1");
    assert_eq!(
        git(&["ls-files", "--stage"]),
        stage.git(&[
            "ls-tree",
            "-r",
            "HEAD",
            "--format=%(objectmode) %(objectname) 0%x09%(path)"
        ])
    );
    assert_eq!(git(&["rev-parse", "HEAD"]), made.base);
    assert_eq!(fs::read(made.root.join("sub/a.txt")).unwrap(), b"one\n");
    let listed = stage.git(&["worktree", "list", "--porcelain"]);
    assert!(listed.contains("branch refs/heads/agent/t_1"), "{listed}");
    assert!(stage.create().is_err(), "it was made a second time");

    let first = made.commit(
        &[change("sub/a.txt", Some("one\n"), Some("two\n"))],
        MESSAGE,
    );
    assert!(first.is_ok(), "{first:?}");
    stage.git(&["fsck", "--strict"]);
    made.remove().unwrap_err();
    assert!(made.top.exists(), "what was committed is not removed");
}

#[test]
fn a_commit_has_the_changes_and_who_made_them_and_is_made_once() {
    let stage = Stage::new();
    let before = stage.state();
    let made = stage.create().unwrap();
    let changes = [
        change("sub/a.txt", Some("one\n"), None),
        change("sub/new/c.txt", None, Some("new\n")),
        change("run.sh", Some("#!/bin/sh\n"), Some("#!/bin/sh\ntrue\n")),
    ];
    for change in &changes {
        let path = made.root.join(&change.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &change.after {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
    let mut executable = changes.to_vec();
    executable[2].executable = true;
    let commit = made.commit(&executable, MESSAGE).unwrap();
    let git = |arguments: &[&str]| git(&made.top, arguments, b"");
    assert_eq!(git(&["status", "--short"]), "");
    assert_eq!(
        git(&["rev-parse", "HEAD", "HEAD~1"]),
        format!("{commit}\n{}", made.base)
    );
    let shown = git(&[
        "show",
        "--no-renames",
        "--summary",
        "--stat",
        "--format=%an|%s%n%b",
        "HEAD",
    ]);
    for part in [
        "Pairwright|Mendit now",
        "It was broken.",
        "delete mode 100644 sub/a.txt",
        "create mode 100644 sub/new/c.txt",
        "3 files changed",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let trailers = git(&["log", "-1", "--format=%(trailers:only)"]);
    assert_eq!(trailers, "Agent-Run: t_1\nAgent-Model: mAgent-Run: t_3");
    assert_eq!(
        made.commit(&executable, MESSAGE).unwrap(),
        commit,
        "it was committed twice"
    );
    stage.git(&["fsck", "--strict"]);
    assert_eq!(stage.state(), before);
    stage.git(&["merge", "-q", "agent/t_1"]);
    assert_eq!(
        fs::read(stage.user().join("sub/new/c.txt")).unwrap(),
        b"new\n"
    );
}

#[test]
fn what_moved_on_the_branch_is_not_committed_over() {
    let stage = Stage::new();
    let made = stage.create().unwrap();
    let git = |arguments: &[&str]| git(&made.top, arguments, b"");
    fs::write(made.top.join("sub/a.txt"), "mine\n").unwrap();
    git(&["commit", "-q", "-a", "-m", "By hand"]);
    let theirs = git(&["rev-parse", "HEAD"]);
    let changes = [change("sub/a.txt", Some("one\n"), Some("two\n"))];
    let refused = made.commit(&changes, MESSAGE).unwrap_err();
    assert!(matches!(refused, WorktreeError::Moved(path) if path == "sub/a.txt"));
    git(&["checkout", "-q", "-b", "elsewhere"]);
    let refused = made.commit(&[], MESSAGE).unwrap_err();
    assert!(matches!(refused, WorktreeError::Moved(branch) if branch == "agent/t_1"));
    assert_eq!(stage.git(&["rev-parse", "agent/t_1"]), theirs);
}

#[test]
fn an_untouched_working_tree_is_removed_with_its_branch() {
    let stage = Stage::new();
    let refs = stage.git(&["for-each-ref"]);
    let made = stage.create().unwrap();
    made.remove().unwrap();
    assert_eq!(stage.git(&["for-each-ref"]), refs);
    assert!(!made.top.exists());
    assert_eq!(stage.git(&["worktree", "list"]).lines().count(), 1);
    stage.create().unwrap();
}

#[test]
fn a_folder_below_the_top_has_its_own_place_in_it() {
    let stage = Stage::new();
    let made = Worktree::create(&stage.user().join("sub"), &stage.at(), "agent/t_1").unwrap();
    assert_eq!(made.root, made.top.join("sub"));
    fs::write(made.root.join("a.txt"), "two\n").unwrap();
    let changes = [change("a.txt", Some("one\n"), Some("two\n"))];
    made.commit(&changes, MESSAGE).unwrap();
    let shown = stage.git(&["show", "agent/t_1:sub/a.txt"]);
    assert_eq!(shown, "two");
}

#[test]
fn nothing_of_a_hostile_repository_runs_or_is_written_elsewhere() {
    let stage = Stage::new();
    let owned = stage.folder.path().join("owned");
    let touch = format!("touch {}", owned.display());
    for hook in [
        "post-checkout",
        "reference-transaction",
        "pre-commit",
        "post-index-change",
        "post-commit",
    ] {
        let hook = stage.user().join(".git/hooks").join(hook);
        write_file(
            &hook,
            EntryKind::BlobExecutable,
            format!("#!/bin/sh\n{touch}\n").as_bytes(),
        )
        .unwrap();
    }
    stage.write(".gitattributes", b"* filter=evil\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-q", "-m", "Filters", "--no-verify"]);
    let _ = fs::remove_file(&owned);
    for (key, value) in [
        ("filter.evil.smudge", touch.as_str()),
        ("filter.evil.clean", &touch),
        ("core.fsmonitor", &touch),
        ("core.sshCommand", &touch),
        ("gpg.program", &touch),
        ("commit.gpgsign", "true"),
    ] {
        let file = stage.user().join(".git/config");
        stage.git(&["config", "--file", file.to_str().unwrap(), key, value]);
    }
    let made = stage.create().unwrap();
    let changes = [change("sub/a.txt", Some("one\n"), Some("two\n"))];
    made.commit(&changes, MESSAGE).unwrap();
    assert!(!owned.exists(), "a program of the repository ran");
}

#[test]
fn a_tree_that_leads_elsewhere_makes_no_working_tree() {
    for (name, mode) in [
        ("..", "040000"),
        (".git", "040000"),
        (".GIT", "040000"),
        ("a/b", "100644"),
        (".git ", "040000"),
    ] {
        let stage = Stage::new();
        let blob = git(&stage.user(), &["hash-object", "-w", "--stdin"], b"x");
        let inner = git(
            &stage.user(),
            &["mktree"],
            format!("100644 blob {blob}\tconfig\n").as_bytes(),
        );
        let id = if mode == "040000" { &inner } else { &blob };
        // git itself makes no such tree.
        let mut raw = format!("{} {name}\0", mode.trim_start_matches('0')).into_bytes();
        raw.extend_from_slice(ObjectId::from_hex(id.as_bytes()).unwrap().as_slice());
        let hash = ["hash-object", "-w", "--literally", "-t", "tree", "--stdin"];
        let tree = git(&stage.user(), &hash, &raw);
        let commit = stage.git(&["commit-tree", &tree, "-m", "Evil"]);
        stage.git(&["update-ref", "refs/heads/main", &commit]);
        let refused = stage.create().unwrap_err();
        assert!(
            matches!(refused, WorktreeError::BadName(_)),
            "{name}: {refused}"
        );
        assert!(!stage.at().exists() && !stage.user().join(".git/worktrees/t_1").exists());
        assert_eq!(stage.git(&["branch", "--list", "agent/*"]), "");
    }
}

#[test]
fn a_link_never_leads_a_write_out_of_the_working_tree() {
    let stage = Stage::new();
    let outside = stage.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let blob = |text: &str| {
        git(
            &stage.user(),
            &["hash-object", "-w", "--stdin"],
            text.as_bytes(),
        )
    };
    let (link, file) = (blob(outside.to_str().unwrap()), blob("owned\n"));
    let inner = git(
        &stage.user(),
        &["mktree"],
        format!("100644 blob {file}\tfile\n").as_bytes(),
    );
    // One name, first a link and then a folder behind it.
    let mut raw = Vec::new();
    for (mode, id) in [("120000", &link), ("40000", &inner)] {
        raw.extend_from_slice(format!("{mode} a\0").as_bytes());
        raw.extend_from_slice(ObjectId::from_hex(id.as_bytes()).unwrap().as_slice());
    }
    let hash = ["hash-object", "-w", "--literally", "-t", "tree", "--stdin"];
    let tree = git(&stage.user(), &hash, &raw);
    let commit = stage.git(&["commit-tree", &tree, "-m", "Evil"]);
    stage.git(&["update-ref", "refs/heads/main", &commit]);
    stage.create().unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn without_a_repository_or_a_commit_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("at");
    let none = Worktree::create(folder.path(), &at, "agent/t_1").unwrap_err();
    assert!(matches!(none, WorktreeError::NoRepository(_)), "{none}");
    let stage = Stage::new();
    stage.git(&["checkout", "-q", "--orphan", "empty"]);
    let none = stage.create().unwrap_err();
    assert!(matches!(none, WorktreeError::NoCommit), "{none}");
}
