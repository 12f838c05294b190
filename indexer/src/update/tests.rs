mod bad_input;
mod refused;
mod switch;
mod told;
mod vectors;

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, SystemTime},
};

use proptest::{prelude::*, sample::Index as At};

use super::*;
use crate::{CursorQuery, Query, path::Tokens, search::query_terms, signal_names};

/// A workspace and a cache folder of its own.
pub(crate) struct Workspace {
    dir: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Workspace {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let workspace = Self {
            dir: tempfile::tempdir().unwrap(),
            cache: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            workspace.write(name, text);
        }
        workspace
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            watch: Watching::Off,
            threads: 2,
            ..Options::new(self.dir.path(), self.cache.path())
        }
    }

    fn open(&self) -> Index {
        Index::open(self.options()).unwrap()
    }

    /// Opens the index and waits until everything is on disk.
    pub(crate) fn settled(&self) -> Index {
        let index = self.open();
        settle(&index);
        index
    }

    /// Returns what an index says that has never seen this workspace before.
    fn built_anew(&self) -> String {
        let cache = tempfile::tempdir().unwrap();
        let index = Index::open(Options {
            cache_dir: cache.path().to_owned(),
            ..self.options()
        });
        let index = index.unwrap();
        settle(&index);
        portrait(&index.reader())
    }

    fn git(&self, arguments: &[&str]) {
        assert!(self.try_git(arguments), "git {arguments:?}");
    }

    /// Returns whether git did what it was told.
    fn try_git(&self, arguments: &[&str]) -> bool {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs git to make a repository"
        )]
        let status = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t"])
            .args(["-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap().success()
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[track_caller]
fn settle(index: &Index) {
    index.rescan();
    assert!(index.wait_until_settled(soon()), "{:?}", index.status());
}

#[track_caller]
fn seen(index: &Index) {
    assert!(index.wait_until_seen(soon()), "{:?}", index.status());
}

/// Everything an index answers, in an order that does not depend on how it came to know it.
fn portrait(reader: &Reader) -> String {
    let mut out = String::new();
    let mut slots: Vec<_> = reader.slots().collect();
    slots.sort_by_key(|&slot| reader.entry(slot).path.clone());
    let mut names = BTreeSet::new();
    for &slot in &slots {
        let entry = reader.entry(slot);
        // A file that is only known by its name appears with the next publishing.
        let Some(unit) = reader.unit_at(slot) else {
            assert_eq!(entry.unit, None);
            continue;
        };
        writeln!(out, "{} {:?} {:?}", entry.path, entry.class, entry.language).unwrap();
        assert_eq!(reader.content_hash(&entry.path), Some(entry.hash));
        writeln!(out, "  {:?}", unit.identifiers).unwrap();
        writeln!(out, "  {} {:?}", entry.hash, unit.chunks).unwrap();
        for at in 0..unit.definitions.len() as u32 {
            writeln!(out, "  {}", unit.qualified_name(at)).unwrap();
        }
        names.extend(unit.definitions.iter().map(|d| d.name.clone()));
    }
    for name in &names {
        let mut places = reader.definitions_of(name);
        places.sort();
        writeln!(out, "{name}: {places:?}").unwrap();
    }
    for word in ["alpha", "beta", "gamma", "shared", "helper", "note"] {
        let terms = query_terms(word);
        let readable = reader.base.text.score(&terms, &reader.overlay.masked, 10);
        assert!(readable.is_ok(), "{:?}", readable.err());
        let found = reader.text_scores(&terms, None);
        let of = |slot: u32| reader.entry(slot).path.as_str();
        let files: BTreeSet<_> = found.found.iter().map(|&slot| of(slot)).collect();
        let paths: BTreeSet<_> = reader
            .search(&Query {
                limit: 100,
                ..Query::new(word)
            })
            .into_iter()
            .map(|hit| hit.path)
            .collect();
        assert!(
            files
                .iter()
                .all(|&file| paths.contains(&RepoPath::from(file)))
        );
        writeln!(out, "{word} in {files:?}").unwrap();
    }
    out
}

const NAMES: &[&str] = &[
    "a.rs",
    "b.py",
    "deep/c.rs",
    "deep/d.js",
    "deep/er/e.txt",
    "f.md",
];
const TEXTS: &[&str] = &[
    "fn alpha() { beta(); }\n",
    "/// A shared note.\nstruct Shared { beta: u8 }\nfn gamma(shared: Shared) {}\n",
    "def alpha():\n    return helper()\n\nclass Gamma:\n    pass\n",
    "function helper() { return shared }\n// note alpha\n",
    "",
    "broken ( [ fn {{{ alpha",
    "nul\0byte alpha",
];

#[derive(Clone, Debug)]
enum Step {
    Write(At, At),
    Delete(At),
    Rename(At, At),
    RenameFolder,
    Switch(bool),
    Type(At, At),
    Close(At),
    Ignore(bool),
    /// Everything so far is published before the next step.
    Settle,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<At>;
    prop_oneof![
        6 => (at(), at()).prop_map(|(name, text)| Step::Write(name, text)),
        2 => at().prop_map(Step::Delete),
        2 => (at(), at()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => Just(Step::RenameFolder),
        2 => any::<bool>().prop_map(Step::Switch),
        2 => (at(), at()).prop_map(|(name, text)| Step::Type(name, text)),
        1 => at().prop_map(Step::Close),
        1 => any::<bool>().prop_map(Step::Ignore),
        2 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

/// Does one step to the files and tells the index as an editor and a watcher would.
fn take(workspace: &Workspace, index: &mut Option<Index>, step: &Step) {
    let live = index.as_ref().unwrap();
    let told = |names: &[&str]| live.changed(names.iter().map(|name| workspace.path(name)));
    match step {
        Step::Write(name, text) => {
            let name = *name.get(NAMES);
            workspace.write(name, text.get(TEXTS));
            told(&[name]);
        }
        Step::Delete(name) => {
            let name = *name.get(NAMES);
            let _ = fs::remove_file(workspace.path(name));
            told(&[name]);
        }
        Step::Rename(from, to) => {
            let (from, to) = (*from.get(NAMES), *to.get(NAMES));
            fs::create_dir_all(workspace.path(to).parent().unwrap()).unwrap();
            let _ = fs::rename(workspace.path(from), workspace.path(to));
            told(&[from, to]);
        }
        Step::RenameFolder => {
            let _ = fs::rename(workspace.path("deep"), workspace.path("moved"));
            told(&["deep", "moved"]);
        }
        Step::Switch(other) => {
            workspace.git(&[
                "checkout",
                "-q",
                "-f",
                if *other { "other" } else { "main" },
            ]);
            live.rescan();
        }
        Step::Type(name, text) => {
            live.buffer_changed(
                &workspace.path(name.get::<&str>(NAMES)),
                (*text.get(TEXTS)).into(),
            );
        }
        Step::Close(name) => live.buffer_closed(&workspace.path(name.get::<&str>(NAMES))),
        Step::Ignore(on) => {
            workspace.write(".gitignore", if *on { "deep/\n" } else { "nothing\n" });
            told(&[".gitignore"]);
        }
        Step::Settle => assert!(live.wait_until_settled(soon())),
        Step::Reopen => {
            *index = None;
            *index = Some(workspace.open());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn after_any_changes_the_index_is_as_if_built_anew(
        steps in proptest::collection::vec(step(), 1..14),
    ) {
        let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("deep/c.rs", TEXTS[1])]);
        workspace.git(&["init", "-q", "-b", "main"]);
        workspace.commit("first note");
        workspace.git(&["checkout", "-q", "-b", "other"]);
        workspace.write("a.rs", TEXTS[2]);
        workspace.write("deep/d.js", TEXTS[3]);
        workspace.commit("second");
        let mut index = Some(workspace.open());
        for step in &steps {
            take(&workspace, &mut index, step);
        }
        let index = index.unwrap();
        for name in NAMES {
            index.buffer_closed(&workspace.path(name));
        }
        index.rescan();
        prop_assert!(index.wait_until_seen(soon()));
        let expected = workspace.built_anew();
        prop_assert_eq!(portrait(&index.reader()), expected.clone(), "in memory");
        settle(&index);
        prop_assert_eq!(portrait(&index.reader()), expected.clone(), "published");
        drop(index);
        let again = workspace.open();
        prop_assert_eq!(portrait(&again.reader()), expected, "as read from disk");
    }

    #[test]
    fn damage_anywhere_on_disk_never_gives_a_wrong_answer(
        file: At, at in 0.0..1.0_f64, flip in 1_u8.., cut: bool,
    ) {
        let files = [("a.rs", TEXTS[0]), ("b.rs", TEXTS[1]), ("c.py", TEXTS[2]), ("d.js", TEXTS[3])];
        let workspace = Workspace::new(&files);
        drop(workspace.settled());
        let stored = files_below(workspace.cache.path());
        let damaged = file.get(&stored);
        let mut bytes = fs::read(damaged).unwrap();
        let at = (at * bytes.len() as f64) as usize;
        if cut { bytes.truncate(at) } else if let Some(byte) = bytes.get_mut(at) { *byte ^= flip }
        fs::write(damaged, bytes).unwrap();

        let index = workspace.settled();
        let place = format!("{}: {:?}", damaged.display(), index.status());
        prop_assert_eq!(portrait(&index.reader()), workspace.built_anew(), "{}", place);
    }
}

#[test]
fn a_file_is_found_by_words_that_only_files_now_gone_had() {
    let workspace = Workspace::new(&[("a.js", TEXTS[3]), ("b.py", TEXTS[3])]);
    let index = workspace.settled();
    for name in ["a.js", "b.py"] {
        fs::remove_file(workspace.path(name)).unwrap();
    }
    settle(&index);
    workspace.write("c.rs", TEXTS[3]);
    index.changed([workspace.path("c.rs")]);
    assert!(index.wait_until_seen(soon()));
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
}

#[test]
fn a_file_is_found_when_the_one_that_said_the_same_changes() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[1]), ("b.rs", TEXTS[1])]);
    let index = workspace.settled();
    workspace.write("a.rs", TEXTS[0]);
    index.changed([workspace.path("a.rs")]);
    assert!(index.wait_until_seen(soon()));
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
    let hits = index.reader().search(&Query::new("shared gamma"));
    assert_eq!(hits[0].path.as_str(), "b.rs");
    assert!(!hits[0].chunks.is_empty());
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn another_versions_index_is_not_read() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    drop(workspace.settled());
    let manifest = files_below(workspace.cache.path())
        .into_iter()
        .find(|path| path.ends_with("manifest"))
        .unwrap();
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[0] ^= 0x40;
    fs::write(&manifest, bytes).unwrap();
    let index = workspace.open();
    assert_eq!(index.reader().n_files(), 0);
    settle(&index);
    assert_eq!(portrait(&index.reader()), workspace.built_anew());
}

#[test]
fn two_processes_take_turns_and_agree() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("b.rs", TEXTS[1])]);
    let first = workspace.settled();
    let (tell, told) = mpsc::channel();
    let second = Index::open(Options {
        on_status: Box::new(move |status| _ = tell.send(status.role)),
        ..workspace.options()
    });
    let second = second.unwrap();
    workspace.write("c.rs", "fn gamma() {}\n");
    for index in [&first, &second] {
        index.changed([workspace.path("c.rs")]);
        assert!(index.wait_until_seen(soon()));
        assert_eq!(portrait(&index.reader()), workspace.built_anew());
    }
    assert_eq!(
        (first.status().role, second.status().role),
        (Role::Writer, Role::Follower)
    );
    drop(first);
    while told.recv_timeout(Duration::from_secs(60)).unwrap() != Role::Writer {}
    workspace.write("d.rs", "fn delta() {}\n");
    settle(&second);
    drop(second);
    assert_eq!(portrait(&workspace.open().reader()), workspace.built_anew());
}

#[test]
fn secrets_are_never_stored_shown_or_found() {
    let workspace = Workspace::new(&[
        (".env", "TOKEN=hunter2alpha\n"),
        ("certs/server.key", "hunter2alpha"),
        ("a.rs", TEXTS[0]),
    ]);
    let index = workspace.settled();
    index.buffer_changed(&workspace.path(".env"), "TOKEN=hunter2alpha\n".into());
    settle(&index);
    let reader = index.reader();
    assert!(reader.unit(&".env".into()).is_none());
    assert_eq!(reader.text(reader.slot(&".env".into()).unwrap()), None);
    let hits = reader.search(&Query::new("TOKEN hunter2alpha"));
    assert!(
        hits.iter().all(|hit| hit.path.as_str() == "a.rs"),
        "{hits:?}"
    );
    drop(index);
    for file in files_below(workspace.cache.path()) {
        let bytes = fs::read(&file).unwrap();
        let leaks = bytes.windows(7).any(|window| window == b"hunter2");
        assert!(!leaks, "{}", file.display());
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_becomes_a_link_is_gone_and_a_loop_is_harmless() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("deep/c.rs", TEXTS[1])]);
    let outside = Workspace::new(&[("passwords.rs", "fn hunter2() {}")]);
    let index = workspace.settled();
    fs::remove_file(workspace.path("a.rs")).unwrap();
    std::os::unix::fs::symlink(outside.path("passwords.rs"), workspace.path("a.rs")).unwrap();
    std::os::unix::fs::symlink(workspace.dir.path(), workspace.path("deep/loop")).unwrap();
    index.changed(["a.rs", "deep/loop"].map(|name| workspace.path(name)));
    settle(&index);
    let paths: Vec<_> = index.reader().paths().map(ToString::to_string).collect();
    assert_eq!(paths, ["deep/c.rs"]);
    assert!(index.reader().definitions_of("hunter2").is_empty());
}

#[cfg(unix)]
#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("deep/er/c.rs", TEXTS[1])]);
    let outside = Workspace::new(&[("er/c.rs", "fn hunter2() {}")]);
    let index = workspace.settled();
    fs::remove_dir_all(workspace.path("deep")).unwrap();
    std::os::unix::fs::symlink(outside.dir.path(), workspace.path("deep")).unwrap();
    for name in ["deep/er/c.rs", "deep"] {
        index.changed([workspace.path(name)]);
        seen(&index);
        assert!(index.reader().definitions_of("hunter2").is_empty());
        let paths: Vec<_> = index.reader().paths().map(ToString::to_string).collect();
        assert_eq!(paths, ["a.rs"]);
    }
}

#[test]
fn files_of_git_are_never_read() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    workspace.git(&["init", "-q"]);
    let index = workspace.settled();
    for name in [".git/config", ".git/not/there"] {
        index.buffer_changed(&workspace.path(name), "[remote]\nurl = hunter2\n".into());
        seen(&index);
        assert!(index.reader().slot(&name.into()).is_none(), "{name}");
        index.buffer_closed(&workspace.path(name));
        index.changed([workspace.path(name)]);
        settle(&index);
        assert!(index.reader().slot(&name.into()).is_none(), "{name}");
    }
}

#[test]
fn a_repository_that_is_made_later_is_found() {
    for watch in [Watching::On, Watching::Off] {
        let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
        let options = Options {
            watch,
            ..workspace.options()
        };
        let index = Index::open(options).unwrap();
        settle(&index);
        workspace.git(&["init", "-q"]);
        workspace.commit("one");
        if watch == Watching::Off {
            index.changed([workspace.path(".git/HEAD")]);
        }
        let is_known = |state: &State| state.status.head.commit.is_some();
        assert!(index.wait(soon(), is_known), "{watch:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn faults_of_the_walk_last_as_long_as_their_cause() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let names = [&b"bad\xff.rs"[..], b"worse\xfe.rs"].map(OsStr::from_bytes);
    for name in names {
        fs::write(workspace.path(name), "x").unwrap();
    }
    let index = workspace.settled();
    assert_eq!(index.status().n_faults, 2);
    for name in names {
        fs::remove_file(workspace.path(name)).unwrap();
    }
    index.rescan();
    settle(&index);
    assert_eq!(index.status().faults, []);
}

#[test]
fn huge_deep_and_broken_files_are_bounded() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let huge = fs::File::create(workspace.path("huge.js")).unwrap();
    huge.set_len(100 << 20).unwrap();
    workspace.write("deep.rs", "(".repeat(900_000));
    workspace.write("deep.json", "[".repeat(900_000));
    workspace.write("long.py", format!("x = {}", "alpha + ".repeat(100_000)));
    workspace.write("latin.c", b"/* caf\xe9 */ int latin(void) { return 0; }\n");
    let index = workspace.settled();
    let reader = index.reader();
    let class = |name: &str| reader.entry(reader.slot(&name.into()).unwrap()).class;
    assert_eq!(class("huge.js"), crate::FileClass::Oversized);
    assert!(reader.unit(&"huge.js".into()).is_none());
    for name in ["deep.rs", "deep.json", "long.py", "latin.c"] {
        assert!(reader.unit(&name.into()).is_some(), "{name}");
    }
    assert_eq!(reader.definitions_of("latin").len(), 1);
    assert_eq!(reader.definitions_of("alpha").len(), 1);
}

#[test]
fn cleaning_waits_for_no_one_and_costs_only_time() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let (cache, root) = (workspace.cache.path(), workspace.dir.path());
    let index = workspace.settled();
    assert_eq!(Index::clean(cache, root).unwrap(), None);
    let bytes = Index::footprint(cache, root).bytes;
    drop(index);
    assert!(Index::clean(cache, root).unwrap() >= Some(bytes));
    assert_eq!(Index::footprint(cache, root).bytes, 0);
    assert_eq!(
        portrait(&workspace.settled().reader()),
        workspace.built_anew()
    );
}
