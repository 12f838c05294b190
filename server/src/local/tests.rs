use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use super::*;

/// A folder of files and an engine that has learnt them.
struct Workspace {
    folder: TempDir,
    engine: Engine,
}

impl Workspace {
    fn new(files: &[(&str, &str)]) -> Self {
        Self::with(files, &[], DEFAULT_MEMORY)
    }

    fn with(files: &[(&str, &str)], exclude: &[&str], memory: usize) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            write(&folder.path().join(path), text);
        }
        let engine = Engine::start(Settings {
            roots: vec![folder.path().to_owned()],
            exclude: exclude.iter().map(ToString::to_string).collect(),
            memory,
        });
        let workspace = Self {
            folder,
            engine: engine.unwrap(),
        };
        workspace.settle();
        workspace
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
        self.engine.changed([self.path(path)]);
        self.settle();
    }

    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(self.engine.wait_learnt(deadline), "still learning");
    }

    /// Completes at the `$0` of `text`.
    fn suggest(&self, path: &str, text: &str) -> Option<Suggestion> {
        let (before, after) = text.split_once("$0").unwrap();
        self.engine.suggest(&Request {
            path: &self.path(path),
            before,
            after,
            open: &[],
        })
    }

    fn text(&self, path: &str, text: &str) -> String {
        self.suggest(path, text)
            .map_or_else(String::new, |s| s.text)
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const BILL: &str = "\
fn total(items: &[Item], discount: Money) -> Money {
    let before_discount = items.iter().map(|item| item.price).sum();
    apply_discount(before_discount, discount)
}

fn tax(items: &[Item], rate: Rate) -> Money {
    let before_tax = items.iter().map(|item| item.price).sum();
    apply_tax(before_tax, rate)
}
";

#[test]
fn the_shipped_weights_fit_the_features() {
    let weights = Weights::shipped();
    assert_eq!(weights.mixing.own.len(), features::N_ROWS);
    assert_eq!(weights.confidence.own.len(), confidence::N_ROWS);
    assert!(weights.mixing.own.iter().any(|weight| *weight != 0.0));
}

#[test]
fn damaged_weights_are_an_error() {
    let whole = Weights::zero().confidence.encode();
    let n_rows = confidence::N_ROWS;
    assert!(Net::decode(&whole, n_rows).is_ok());
    let mut not_a_number = whole.clone();
    not_a_number[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    let longer = [&whole[..], &[0]].concat();
    for bytes in [&whole[..whole.len() - 1], &longer, &not_a_number, &[]] {
        assert!(Net::decode(bytes, n_rows).is_err(), "{} bytes", bytes.len());
    }
    assert!(Net::decode(&whole, n_rows + 1).is_err());
}

#[test]
fn a_line_like_others_in_the_workspace_is_completed() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let suggestion = workspace
        .suggest(
            "new.rs",
            "fn f(items: &[Item]) {\n    let sum = items.iter().map($0",
        )
        .unwrap();
    assert_eq!(suggestion.text, "|item| item.price).sum();");
    let ends: Vec<usize> = suggestion.prefixes.iter().map(|p| p.end).collect();
    assert!(ends.is_sorted() && ends.last() == Some(&suggestion.text.len()));
}

#[test]
fn a_word_being_typed_is_kept() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let text = workspace.text("new.rs", "fn f() {\n    apply_d$0");
    assert!(text.starts_with("iscount("), "{text}");
}

#[test]
fn text_behind_the_cursor_is_not_written_again() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let text = workspace.text("new.rs", "fn f() {\n    apply_discount($0)\n}\n");
    assert_eq!(text, "before_discount, discount");
}

#[test]
fn a_name_is_renamed_as_it_was_elsewhere_in_the_line() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let above = "self.first = first;\nself.second = second;\nself.third = third;\n";
    let text = workspace.text("new.rs", &format!("{above}self.fourth = $0"));
    assert_eq!(text, "fourth;");
}

#[test]
fn nothing_is_suggested_inside_a_word_or_on_an_endless_line() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let endless = format!("{}before_tax, $0", "x, ".repeat(2_000));
    for cursor in ["fn f() {\n    appl$0_discount", &endless] {
        assert_eq!(workspace.suggest("new.rs", cursor), None);
    }
    assert!(workspace.suggest("new.rs", "before_tax, $0").is_some());
}

#[test]
fn a_key_in_the_sources_is_never_suggested() {
    let key = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let source = format!("let token = \"{key}\";\nconnect(token);\n");
    let workspace = Workspace::new(&[("a.rs", &source), ("b.rs", &source)]);
    for cursor in ["let token = \"$0", "let token = \"ghp_$0", "let token = $0"] {
        let text = workspace.text("new.rs", cursor);
        assert!(!text.contains("7e42F292c6912E77"), "{cursor}: {text}");
    }
}

#[test]
fn changes_on_disk_become_visible() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let cursor = "fn f() {\n    launch_rocket($0";
    assert_ne!(workspace.text("new.rs", cursor), "countdown, fuel);");
    workspace.write(
        "space.rs",
        "fn g() {\n    launch_rocket(countdown, fuel);\n}\n",
    );
    assert_eq!(workspace.text("new.rs", cursor), "countdown, fuel);");
    workspace.write("space.rs", "fn g() {\n    launch_rocket(pilot, moon);\n}\n");
    assert_eq!(workspace.text("new.rs", cursor), "pilot, moon);");
    fs::remove_file(workspace.path("space.rs")).unwrap();
    workspace.engine.changed([workspace.path("space.rs")]);
    workspace.settle();
    assert!(!workspace.text("new.rs", cursor).contains("pilot"));
    assert_eq!(workspace.engine.status().files, 1);
}

#[test]
fn a_folder_that_appears_or_goes_stands_for_its_files() {
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    for name in ["a", "b", "c"] {
        write(&workspace.path(&format!("new/{name}.rs")), BILL);
    }
    workspace.engine.changed([workspace.path("new")]);
    workspace.settle();
    assert_eq!(workspace.engine.status().files, 4);
    fs::remove_dir_all(workspace.path("new")).unwrap();
    workspace.engine.changed([workspace.path("new")]);
    workspace.settle();
    assert_eq!(workspace.engine.status().files, 1);
}

#[test]
fn an_open_buffer_counts_instead_of_its_file_until_it_is_closed() {
    let disk = "fn g() {\n    launch_rocket(pilot, moon);\n}\n";
    let workspace = Workspace::new(&[("bill.rs", BILL), ("space.rs", disk)]);
    let buffer = workspace.path("space.rs");
    let cursor = "fn f() {\n    launch_rocket(";
    let ask = || {
        let suggestion = workspace.engine.suggest(&Request {
            path: &workspace.path("new.rs"),
            before: cursor,
            after: "",
            open: &[&buffer],
        });
        suggestion.map_or_else(String::new, |s| s.text)
    };
    assert_eq!(ask(), "pilot, moon);");
    let edited = Rope::from_str("fn g() {\n    launch_rocket(countdown, fuel);\n}\n");
    workspace.engine.edited(&buffer, edited);
    workspace.settle();
    assert_eq!(ask(), "countdown, fuel);");
    // Learning anew gives every word another number; the buffer must follow.
    write(
        &workspace.path("aaa.rs"),
        &BILL.replace("discount", "rebate"),
    );
    workspace.engine.relearn();
    workspace.settle();
    assert_eq!(ask(), "countdown, fuel);");
    workspace.engine.closed(&buffer);
    workspace.settle();
    assert_eq!(ask(), "pilot, moon);");
}

#[test]
fn a_file_is_not_completed_from_its_own_old_text() {
    let disk = "fn g() {\n    launch_rocket(pilot, moon);\n}\n";
    let workspace = Workspace::new(&[("bill.rs", BILL), ("space.rs", disk)]);
    let cursor = "fn f() {\n    launch_rocket($0";
    assert_eq!(workspace.text("new.rs", cursor), "pilot, moon);");
    assert!(!workspace.text("space.rs", cursor).contains("pilot"));
}

#[test]
fn the_same_question_has_the_same_answer() {
    let files = [
        ("bill.rs", BILL),
        ("copy.rs", &BILL.replace("Money", "Euro")),
    ];
    let (one, other) = (Workspace::new(&files), Workspace::new(&files));
    let cursors: Vec<usize> = (0..BILL.len()).step_by(3).collect();
    let answers = |workspace: &Workspace, order: &mut dyn Iterator<Item = usize>| {
        let mut answers: Vec<(usize, Option<Suggestion>)> = order
            .map(|at| {
                (
                    at,
                    workspace.suggest("new.rs", &format!("{}$0", &BILL[..at])),
                )
            })
            .collect();
        answers.sort_by_key(|answer| answer.0);
        answers
    };
    let forwards = answers(&one, &mut cursors.iter().copied());
    assert_eq!(forwards, answers(&one, &mut cursors.iter().rev().copied()));
    assert_eq!(forwards, answers(&other, &mut cursors.iter().copied()));
}

#[test]
fn what_may_be_learnt_is_counted_and_the_rest_told_by_reason() {
    let files = [
        ("a.rs", BILL),
        (".gitignore", "ignored.rs\n"),
        ("ignored.rs", BILL),
        ("held/out.rs", BILL),
        ("node_modules/x.js", "x();"),
        ("gen.rs", "// Code generated by a program.\nfn f() {}\n"),
        ("server.pem", "x"),
        ("logo.png", "x"),
        ("nul.rs", "fn f() {}\0"),
    ];
    let status = Workspace::with(&files, &["held/**"], DEFAULT_MEMORY)
        .engine
        .status();
    assert_eq!((status.files, status.bytes), (1, BILL.len() as u64));
    let skipped: Vec<(Skip, usize)> = status.skipped.into_iter().collect();
    let once = |skip| (skip, 1);
    assert_eq!(
        skipped,
        [
            Skip::Excluded,
            Skip::Vendored,
            Skip::Generated,
            Skip::Binary,
            Skip::Secret,
            Skip::NotText
        ]
        .map(once)
    );
    assert_eq!(status.state, State::Idle);
}

#[cfg(unix)]
#[test]
fn a_root_may_be_a_link_but_no_link_leads_out_of_it() {
    let target = Workspace::new(&[("bill.rs", BILL)]);
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("project");
    std::os::unix::fs::symlink(target.folder.path(), &link).unwrap();
    let elsewhere = TempDir::new().unwrap();
    write(&elsewhere.path().join("secret_plan.rs"), BILL);
    std::os::unix::fs::symlink(elsewhere.path(), target.path("out")).unwrap();
    let engine = Engine::start(Settings {
        roots: vec![link.clone()],
        exclude: Vec::new(),
        memory: DEFAULT_MEMORY,
    });
    let engine = engine.unwrap();
    assert!(engine.wait_learnt(Instant::now() + Duration::from_secs(60)));
    assert_eq!(engine.status().files, 1);
    engine.changed([link.join("bill.rs"), link.join("out")]);
    assert!(engine.wait_learnt(Instant::now() + Duration::from_secs(60)));
    assert_eq!(engine.status().files, 1);
}

#[test]
fn memory_stays_under_the_cap_when_files_come_in_batches() {
    const MEMORY: usize = 2 << 20;
    let workspace = Workspace::with(&[("first.rs", "let first = 1;\n")], &[], MEMORY);
    for batch in 0..12 {
        for n in 0..10 {
            let line =
                |line| format!("let name_{batch}_{n}_{line} = other_{line}({n}, value_{n});\n");
            let text: String = (0..400).map(line).collect();
            write(&workspace.path(&format!("batch{batch}/file{n}.rs")), &text);
        }
        workspace
            .engine
            .changed([workspace.path(&format!("batch{batch}"))]);
        workspace.settle();
        let status = workspace.engine.status();
        assert!(status.memory <= MEMORY, "batch {batch}: {status:?}");
    }
    let status = workspace.engine.status();
    assert!(status.is_capped && status.memory > MEMORY / 4, "{status:?}");
}

#[test]
fn memory_stays_under_the_cap_also_when_learning_anew() {
    const MEMORY: usize = 2 << 20;
    let mut files = Vec::new();
    for n in 0..120 {
        let mut text = String::new();
        for line in 0..400 {
            writeln!(text, "let name_{n}_{line} = other_{line}({n}, value_{n});").unwrap();
        }
        files.push((format!("file{n}.rs"), text));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (&**p, &**t)).collect();
    let workspace = Workspace::with(&files, &[], MEMORY);
    for _ in 0..2 {
        let status = workspace.engine.status();
        assert!(status.is_capped && status.memory <= MEMORY, "{status:?}");
        assert!(status.memory > MEMORY / 4, "{status:?}");
        assert_eq!(status.files + status.skipped[&Skip::OverMemory], 120);
        workspace.engine.relearn();
        workspace.settle();
    }
}

#[test]
fn large_buffers_keep_to_their_share_and_a_saved_file_is_learnt_beside_them() {
    const MEMORY: usize = 4 << 20;
    let text = |n: usize| -> String {
        let line = |line| format!("let name_{n}_{line} = other_{line}({n}, value_{n});\n");
        (0..400).map(line).collect()
    };
    let folder = TempDir::new().unwrap();
    let root = folder.path().to_owned();
    for n in 0..120 {
        write(&root.join(format!("file{n}.rs")), &text(n));
    }
    let mut learner = Learner::new(vec![root.clone()], GlobSet::empty(), MEMORY);
    let buffer = |n: usize| root.join(format!("open{n}.rs"));
    for n in 0..40 {
        learner.learn_open(&buffer(n), Some(text(n)));
    }
    // Typed in again, it is no longer the one that was left longest.
    let kept = learner.snapshot().open.len();
    let oldest = 40 - kept;
    learner.learn_open(&buffer(oldest), Some(text(oldest)));
    learner.learn_open(&buffer(40), Some(text(40)));
    let open = learner.snapshot().open;
    assert!(kept > 1 && open.len() <= kept, "{kept}, {}", open.len());
    assert!(open.contains_key(&*buffer(40)) && open.contains_key(&*buffer(oldest)));
    assert!(!open.contains_key(&*buffer(0)) && !open.contains_key(&*buffer(oldest + 1)));
    learner.learn_all(&mut |_, _| true, &mut |_| {});
    let status = learner.status();
    assert!(status.is_capped && status.memory <= MEMORY, "{status:?}");
    assert!(status.memory > MEMORY / 2, "{status:?}");
    let saved = [root.join("file0.rs")].into_iter().collect();
    assert!(
        learner.learn_changed(&saved),
        "everything would be learnt anew"
    );
}

#[test]
fn what_is_not_learnt_from_disk_is_not_learnt_from_a_buffer() {
    let workspace = Workspace::with(&[("bill.rs", BILL)], &["held/**"], DEFAULT_MEMORY);
    let rocket = "fn g() {\n    launch_rocket(pilot, moon);\n}\n".repeat(4);
    let names = ["held/a.rs", "vendor/a.rs", "gen.pb.go", ".env", "kept/a.rs"];
    for name in names {
        let text = Rope::from_str(&rocket);
        workspace.engine.edited(&workspace.path(name), text);
    }
    workspace.settle();
    assert_eq!(workspace.engine.status().open, 1);
    workspace.engine.closed(&workspace.path("kept/a.rs"));
    workspace.settle();
    assert_eq!(workspace.engine.status().open, 0);
}

#[test]
fn many_changes_that_the_rules_ignore_are_no_reason_to_learn_everything_anew() {
    let files = [("bill.rs", BILL), (".gitignore", "node_modules/\n")];
    let workspace = Workspace::new(&files);
    let path = |n: usize| workspace.path(&format!("node_modules/{}/{n}.js", n % 90));
    let installed: Vec<PathBuf> = (0..9_000).map(path).collect();
    for path in installed.iter().take(90) {
        write(path, "x();\n");
    }
    workspace.engine.changed(installed);
    assert_eq!(workspace.engine.status().state, State::Idle);
    workspace.settle();
    assert_eq!(workspace.engine.status().files, 1);
}

/// Returns the CPU time this thread spends in `work`.
fn cpu(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            time.tv_sec.unsigned_abs(),
            time.tv_nsec.unsigned_abs() as u32,
        )
    };
    let start = now();
    work();
    now() - start
}

#[test]
fn the_worst_texts_cost_little() {
    const MOST: Duration = Duration::from_millis(60);
    let workspace = Workspace::new(&[("bill.rs", BILL)]);
    let buffers: Vec<PathBuf> = (0..50)
        .map(|n| workspace.path(&format!("{n}.rs")))
        .collect();
    for (n, buffer) in buffers.iter().enumerate() {
        let text = BILL
            .replace("discount", &format!("discount_{n}"))
            .repeat(100);
        workspace.engine.edited(buffer, Rope::from_str(&text));
    }
    workspace.settle();
    let open: Vec<&Path> = buffers.iter().map(PathBuf::as_path).collect();
    let worst = [
        ("a large file", BILL.repeat(1000)),
        (
            "one token over and over",
            "x x x x x x x x\n".repeat(25_000) + "x ",
        ),
        (
            "one pair over and over",
            "(x".repeat(1000) + "\n" + &"(x\n".repeat(50_000) + "(x",
        ),
        ("one endless line", "let a = b + c; ".repeat(70_000)),
        ("one endless word", "x".repeat(1 << 20)),
        (
            "a word a line",
            (0..60_000).fold(String::new(), |text, n| text + &format!("w{n}\n")),
        ),
        (
            "endless indentation",
            (0..600).fold(String::new(), |text, n| text + &" ".repeat(n) + "x\n"),
        ),
    ];
    for (name, before) in worst {
        let ask = || {
            let request = Request {
                path: &workspace.path("new.rs"),
                before: &before,
                after: &before,
                open: &open,
            };
            drop(workspace.engine.suggest(&request));
        };
        let (first, again) = (cpu(ask), cpu(ask));
        assert!(first.max(again) < MOST, "{name}: {first:?}, then {again:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_gets_a_line_or_nothing(
        before in "(\\PC|[ \t\r\n(){}\"]|fn |let ){0,60}",
        after in "(\\PC|[ \t\r\n(){}\"]){0,20}",
    ) {
        static WORKSPACE: LazyLock<Workspace> = LazyLock::new(|| Workspace::new(&[("bill.rs", BILL)]));
        let request = Request { path: Path::new("any.rs"), before: &before, after: &after, open: &[] };
        if let Some(suggestion) = WORKSPACE.engine.suggest(&request) {
            prop_assert!(!suggestion.text.trim().is_empty() && !suggestion.text.contains('\n'));
            prop_assert!((0.0..=1.0).contains(&suggestion.confidence));
            for prefix in &suggestion.prefixes {
                prop_assert!(suggestion.text.is_char_boundary(prefix.end));
                prop_assert!((0.0..=1.0).contains(&prefix.confidence));
            }
        }
    }
}

/// The engine learns this crate without some of its files and completes lines of those.
#[test]
fn lines_of_this_crate_are_completed_from_its_other_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // A tenth of the files is held out, as in the bench, so that no single one decides.
    let mut held_out: Vec<PathBuf> = ignore::Walk::new(&root)
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    held_out.sort();
    let held_out: Vec<PathBuf> = held_out.into_iter().step_by(10).collect();
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    let settings = Settings {
        roots: vec![root.clone()],
        exclude: held_out.iter().map(name).collect(),
        memory: DEFAULT_MEMORY,
    };
    let engine = Engine::start(settings).unwrap();
    assert!(engine.wait_learnt(Instant::now() + Duration::from_secs(60)));
    let (mut n, mut n_exact, mut n_said, mut n_right) = (0, 0, 0, 0);
    for path in held_out {
        let text = fs::read_to_string(&path).unwrap();
        let mut start = 0;
        for (at, line) in text.split('\n').enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line[indent..].match_indices(' ');
            let columns: Vec<usize> = std::iter::once(indent)
                .chain(words.map(|gap| indent + gap.0 + 1))
                .collect();
            let column = columns[at % columns.len()];
            let rest = &line[column..];
            if rest.trim().len() >= 2 && at % 4 == 0 {
                let suggestion = engine.suggest(&Request {
                    path: &path,
                    before: &text[..start + column],
                    after: "",
                    open: &[],
                });
                let is_right = suggestion.as_ref().is_some_and(|s| s.text == rest);
                let is_said = suggestion.is_some_and(|s| s.confidence >= GATE);
                n += 1;
                n_exact += usize::from(is_right);
                n_said += usize::from(is_said);
                n_right += usize::from(is_said && is_right);
            }
            start += line.len() + 1;
        }
    }
    let figures = format!("{n_exact} exact of {n}; {n_right} right of {n_said} said");
    assert!(n > 1_000 && n_exact * 10 >= n, "{figures}");
    assert!(n_said * 100 >= n * 4, "{figures}");
    assert!(n_right * 2 >= n_said, "{figures}");
}
