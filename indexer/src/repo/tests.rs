use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::text::score::QueryTerm;

/// Has git itself make a repository, or judge what was made of it, by no settings of the user: what
/// it prints.
pub(super) fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests need git to compare with")]
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// A repository made by git itself.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture
    }

    fn git(&self, arguments: &[&str]) {
        git(self.0.path(), arguments, b"");
    }

    fn commit(&self, message: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    fn repo(&self) -> Repo {
        Repo::open(self.0.path()).unwrap()
    }
}

fn terms(text: &str) -> Vec<QueryTerm> {
    analyse::prose_terms(text)
        .iter()
        .map(|term| QueryTerm {
            text: term.to_owned(),
            weight: 1.0,
        })
        .collect()
}

fn names(files: &[RepoPath]) -> Vec<&str> {
    let mut names: Vec<_> = files.iter().map(RepoPath::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn past_messages_point_at_the_files_they_were_about() {
    let fixture = Fixture::new();
    fixture.commit("Start", &[("a.rs", "1"), ("b.rs", "1"), ("c.rs", "1")]);
    fixture.commit(
        "Retry with back-off when the server is busy",
        &[("b.rs", "2"), ("c.rs", "2")],
    );
    fixture.commit("Rename the colour table", &[("a.rs", "2")]);
    let history = fixture.repo().history(&History::default()).unwrap();
    assert_eq!(history.commits().len(), 3);

    let mut scores = std::collections::BTreeMap::new();
    history.score(&terms("server retries"), |file, score| {
        scores.insert(file, score);
    });
    let of = |name| {
        scores
            .get(&history.file(&RepoPath::from(name)).unwrap())
            .copied()
    };
    assert!(of("b.rs").unwrap().neighbours > 0.0);
    assert_eq!(of("b.rs"), of("c.rs"));
    assert_eq!(of("a.rs"), None);

    let b = history.file(&RepoPath::from("b.rs")).unwrap();
    let together = history.together(&[(b, 1.0)]);
    let c = history.file(&RepoPath::from("c.rs")).unwrap();
    let a = history.file(&RepoPath::from("a.rs")).unwrap();
    assert!(together[&c] > together[&a]);
    assert!(history.recency(a).0 > history.recency(b).0);
}

#[test]
fn only_new_commits_are_read_and_the_rest_is_kept() {
    let fixture = Fixture::new();
    fixture.commit("one", &[("a.rs", "1")]);
    let first = fixture.repo().history(&History::default()).unwrap();
    fixture.commit("two", &[("a.rs", "2")]);
    let second = fixture.repo().history(&first).unwrap();
    assert_eq!(second.commits().len(), 2);
    assert!(Arc::ptr_eq(&first.commits()[0], &second.commits()[1]));

    let stored = fixture.0.path().join("history");
    second.write(&stored).unwrap();
    let read = History::read(&stored).unwrap();
    assert_eq!(read.commits(), second.commits());
}

#[test]
fn the_branch_and_what_changed_between_two_commits_are_known() {
    let fixture = Fixture::new();
    fixture.commit("one", &[("a.rs", "1"), ("b.rs", "1")]);
    let before = fixture.repo().head();
    assert_eq!(before.branch.as_deref(), Some("main"));
    fixture.git(&["checkout", "-q", "-b", "topic"]);
    fixture.commit("two", &[("b.rs", "2"), ("dir/c.rs", "2")]);
    let repo = fixture.repo();
    let after = repo.head();
    assert_eq!(after.branch.as_deref(), Some("topic"));
    let changed = repo
        .changed_between(&before.commit.unwrap(), &after.commit.unwrap())
        .unwrap();
    assert_eq!(names(&changed), ["b.rs", "dir/c.rs"]);
}

#[test]
fn a_workspace_inside_a_repository_sees_its_own_part() {
    let fixture = Fixture::new();
    fixture.commit("one", &[("sub/a.rs", "1"), ("other/b.rs", "1")]);
    let repo = Repo::open(&fixture.0.path().join("sub")).unwrap();
    let history = repo.history(&History::default()).unwrap();
    assert_eq!(names(&history.commits()[0].files), ["a.rs"]);
}

#[test]
fn a_shallow_clone_gives_what_it_has() {
    let fixture = Fixture::new();
    fixture.commit("one", &[("a.rs", "1")]);
    fixture.commit("two", &[("b.rs", "1")]);
    fixture.commit("three", &[("c.rs", "1")]);
    let clone = tempfile::tempdir().unwrap();
    let url = format!("file://{}", fixture.0.path().display());
    let target = clone.path().join("c");
    fixture.git(&[
        "clone",
        "-q",
        "--depth",
        "2",
        &url,
        target.to_str().unwrap(),
    ]);
    let repo = Repo::open(&target).unwrap();
    assert!(repo.head().shallow);
    let history = repo.history(&History::default()).unwrap();
    let files: Vec<_> = history
        .commits()
        .iter()
        .map(|commit| names(&commit.files))
        .collect();
    assert_eq!(files, [vec!["c.rs"], vec![]]);
}

#[test]
fn damage_gives_less_and_never_fails() {
    let fixture = Fixture::new();
    assert_eq!(fixture.repo().head().commit, None);
    assert!(fixture.repo().history(&History::default()).is_none());
    fixture.commit("one", &[("a.rs", "1")]);
    let repo = fixture.repo();
    fs::remove_dir_all(fixture.0.path().join(".git/objects")).unwrap();
    fs::create_dir(fixture.0.path().join(".git/objects")).unwrap();
    let history = repo.history(&History::default());
    assert_eq!(history.map_or(0, |history| history.commits().len()), 0);
    fs::write(fixture.0.path().join(".git/HEAD"), "nonsense").unwrap();
    assert!(Repo::open(fixture.0.path()).is_none_or(|repo| repo.head().commit.is_none()));
    assert!(Repo::open(tempfile::tempdir().unwrap().path()).is_none());
}

#[test]
fn the_age_of_a_file_is_that_of_its_last_change() {
    let fixture = Fixture::new();
    let age_of = |path: &str| age::age(fixture.0.path(), &RepoPath::from(path));
    assert_eq!(age_of("sub/a.txt"), None);
    fixture.commit("First", &[("sub/a.txt", "1"), ("b.txt", "1")]);
    let dated = |day: &str| {
        fixture.git(&["add", "-A"]);
        fixture.git(&["commit", "-q", "-m", "m", "--date", day]);
    };
    fs::write(fixture.0.path().join("sub/a.txt"), "2").unwrap();
    dated("2020-01-02T00:00:00Z");
    for text in ["2", "3"] {
        fs::write(fixture.0.path().join("b.txt"), text).unwrap();
        dated("2021-01-02T00:00:00Z");
    }
    let expected = age::Age {
        seconds: 1_577_923_200,
        n_commits: 2,
    };
    assert_eq!(age_of("sub/a.txt"), Some(expected));
    assert_eq!(age_of("b.txt").unwrap().n_commits, 0);
    assert_eq!(age_of("c.txt"), None);
    let below = age::age(&fixture.0.path().join("sub"), &RepoPath::from("a.txt"));
    assert_eq!(below, Some(expected), "of a folder of the repository");
}
