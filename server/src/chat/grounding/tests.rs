//! Pieces gathered from real folders.

use std::fs;
use std::path::Path;

use super::*;
use crate::edit::worlds::NoDocuments;

struct Stage {
    dir: tempfile::TempDir,
    workspace: Workspace,
}

impl Stage {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for (path, text) in files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let workspace = Workspace::open(&root, &dir.path().join("state")).unwrap();
        Self { dir, workspace }
    }

    fn root(&self) -> &Path {
        self.workspace.root().path()
    }

    fn gather(
        &self,
        references: &[Reference],
        surroundings: &Surroundings,
        budget: usize,
    ) -> Grounding {
        let sources = Sources {
            question: "why?",
            references,
            surroundings,
            documents: &NoDocuments,
            index: None,
            workspace: &self.workspace,
        };
        gather(&sources, budget)
    }
}

fn file(path: &str) -> Reference {
    Reference::File {
        path: path.to_owned(),
        first_line: None,
        last_line: None,
    }
}

/// Every piece on a line, then what could not be shown.
fn shown(grounding: &Grounding) -> String {
    let piece = |piece: &Piece| {
        let place = piece.shown.place.as_ref();
        let lines = place.and_then(|p| Some(format!(" {}-{}", p.first_line?, p.last_line?)));
        let cut = if piece.shown.is_cut { " cut" } else { "" };
        format!(
            "{}{}{cut} ({}): {:?}",
            piece.shown.title,
            lines.unwrap_or_default(),
            piece.shown.reason,
            piece.text
        )
    };
    let pieces = grounding.pieces.iter().map(piece);
    let notices = grounding.notices.iter().map(|why| format!("! {why}"));
    pieces.chain(notices).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_user_points_at_is_shown_and_the_rest_is_said() {
    let stage = Stage::new(&[
        ("src/a.rs", "one\ntwo\nthree\n"),
        (".env", "PASSWORD=hunter2hunter2\n"),
        ("bin", "a\0b"),
    ]);
    fs::write(stage.dir.path().join("outside.txt"), "not yours\n").unwrap();
    std::os::unix::fs::symlink("../outside.txt", stage.root().join("link.txt")).unwrap();
    let lines = Reference::File {
        path: "src/a.rs".to_owned(),
        first_line: Some(2),
        last_line: Some(2),
    };
    let references = [
        lines,
        file("src/a.rs"),
        file(".env"),
        file("bin"),
        file("src"),
        file("gone.rs"),
        file("../outside.txt"),
        file("/etc/passwd"),
        file("link.txt"),
        Reference::Symbol {
            name: "f".to_owned(),
        },
        Reference::Diff { text: None },
        Reference::Terminal {
            text: "error: no\n".to_owned(),
        },
        Reference::Diagnostics {
            items: vec![Diagnostic {
                path: "src/a.rs".to_owned(),
                line: 2,
                message: "unused".to_owned(),
            }],
        },
    ];
    let grounding = stage.gather(&references, &Surroundings::default(), usize::MAX);
    let expected = [
        r#"src/a.rs 2-2 (you pointed at it): "two\n""#,
        r#"src/a.rs 1-3 (you pointed at it): "one\ntwo\nthree\n""#,
        r#"terminal output (you pointed at it): "error: no\n""#,
        r#"diagnostics of the editor (you pointed at it): "src/a.rs:2: unused\n""#,
        "! .env is not read: such files hold secrets.",
        "! bin is not text.",
        "! src is a folder.",
        "! gone.rs is not there.",
        "! ../outside.txt is not read: the path goes up with `..`.",
        "! /etc/passwd is not read: the path is absolute and leads out of the workspace.",
        "! link.txt is not read: …",
        "! No definition of `f` is indexed.",
        "! git does not tell the changes.",
    ];
    let shown = shown(&grounding);
    for (line, expected) in shown.lines().zip(expected) {
        match expected.strip_suffix('…') {
            Some(beginning) => assert!(line.starts_with(beginning), "{line}"),
            None => assert_eq!(line, expected),
        }
    }
    assert_eq!(shown.lines().count(), expected.len(), "{shown}");
}

#[test]
fn secrets_are_taken_out_of_every_piece() {
    let stage = Stage::new(&[("config.py", "url = 'x'\npassword = \"hunter2hunter2\"\n")]);
    let terminal = Reference::Terminal {
        text: "export TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n".to_owned(),
    };
    let references = [file("config.py"), terminal];
    let grounding = stage.gather(&references, &Surroundings::default(), usize::MAX);
    let text: String = grounding.pieces.iter().map(|p| p.text.as_str()).collect();
    assert!(
        text.contains("url = 'x'") && text.contains("[redacted"),
        "{text}"
    );
    assert!(
        !text.contains("hunter2") && !text.contains("ghp_"),
        "{text}"
    );
}

/// Sixty lines as of a private key, between its marks.
fn key_file() -> String {
    let lines: String = (0..60)
        .map(|n| format!("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC{n:032}\n"))
        .collect();
    format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n")
}

#[test]
fn of_a_private_key_no_window_is_shown() {
    let key = key_file();
    let text = format!("fine = 1\n{key}fine = 2\n");
    let stage = Stage::new(&[("notes.txt", &text)]);
    let uri = crate::session::document::uri_of(&stage.root().join("notes.txt"));
    let document = Arc::new(Document::new(&uri, "plaintext", 1, &text));
    let lines = Reference::File {
        path: "notes.txt".to_owned(),
        first_line: Some(20),
        last_line: Some(30),
    };
    // Of a long text the end is kept, which begins inside of the key.
    let terminal = Reference::Terminal {
        text: format!("$ cat key\n{key}{}", "ok\n".repeat(5000)),
    };
    let tail = key.split_inclusive('\n').skip(20).collect::<String>();
    let cut_off = Reference::Terminal {
        text: format!("{tail}$ ls\n"),
    };
    let selection = text.find("0003\n").unwrap()..text.find("0009\n").unwrap();
    for selection in [selection, text.len()..text.len()] {
        let surroundings = Surroundings {
            snapshot: Snapshot {
                documents: Arc::new([Arc::clone(&document)]),
                roots: Arc::new([stage.root().to_owned()]),
                ..Snapshot::default()
            },
            active: Some(Active {
                document: Arc::clone(&document),
                selection,
            }),
        };
        let references = [lines.clone(), terminal.clone(), cut_off.clone()];
        let grounding = stage.gather(&references, &surroundings, usize::MAX);
        let shown = shown(&grounding);
        assert!(!shown.contains("MIIEvQ"), "{shown}");
        assert!(shown.contains("[redacted private key]\\n$ ls"), "{shown}");
        for why in ["is not read", "is not shown"] {
            let notice = format!("! notes.txt {why}: it holds a private key.");
            assert!(shown.contains(&notice), "{shown}");
        }
    }
}

#[test]
fn a_search_before_the_index_is_open_says_so() {
    let stage = Stage::new(&[("a.rs", "fn why() {}\n")]);
    let indexes = Indexes::new(&[stage.root().to_owned()], stage.dir.path().join("cache"));
    let sources = Sources {
        question: "why?",
        references: &[],
        surroundings: &Surroundings::default(),
        documents: &NoDocuments,
        index: Some(&indexes),
        workspace: &stage.workspace,
    };
    assert_eq!(gather(&sources, usize::MAX).indexing, Some((0, 0)));
    indexes.load();
    indexes.settle(std::time::Instant::now() + std::time::Duration::from_secs(60));
    assert_eq!(gather(&sources, usize::MAX).indexing, None);
}

#[test]
fn every_piece_and_their_sum_are_bounded() {
    let long = "a line of some length, again and again\n".repeat(4000);
    let stage = Stage::new(&[
        ("a.txt", &long),
        ("b.txt", &long),
        ("c.txt", &long),
        ("d.txt", &long),
    ]);
    let references = [
        file("a.txt"),
        Reference::Terminal {
            text: format!("{long}the end\n"),
        },
        file("b.txt"),
        file("c.txt"),
        file("d.txt"),
    ];
    for budget in [0, 100, 20_000, usize::MAX] {
        let grounding = stage.gather(&references, &Surroundings::default(), budget);
        let sizes: Vec<usize> = grounding.pieces.iter().map(|p| p.text.len()).collect();
        assert!(sizes.iter().sum::<usize>() <= budget.min(MOST), "{sizes:?}");
        assert!(sizes.iter().all(|&size| size <= REFERENCE), "{sizes:?}");
        for piece in &grounding.pieces {
            assert!(piece.shown.is_cut, "{:?}", piece.shown);
            let end = &piece.text[piece.text.len().saturating_sub(40)..];
            assert!(piece.text.ends_with('\n'), "{:?}: {end:?}", piece.shown);
        }
    }
    let all = stage.gather(&references, &Surroundings::default(), usize::MAX);
    assert!(
        all.pieces[1].text.ends_with("the end\n"),
        "a terminal's end is what counts"
    );
}

#[test]
fn the_selection_and_what_stands_around_it_come_from_the_editor() {
    let stage = Stage::new(&[("a.rs", "on the disk\n")]);
    let text: String = (1..=400).map(|n| format!("line {n}\n")).collect();
    let uri = crate::session::document::uri_of(&stage.root().join("a.rs"));
    let document = Arc::new(Document::new(&uri, "rust", 1, &text));
    let start = text.find("line 200\n").unwrap();
    let snapshot = Snapshot {
        documents: Arc::new([Arc::clone(&document)]),
        roots: Arc::new([stage.root().to_owned()]),
        ..Snapshot::default()
    };
    let looks_at = |selection: Range<usize>| Surroundings {
        snapshot: snapshot.clone(),
        active: Some(Active {
            document: Arc::clone(&document),
            selection,
        }),
    };
    let grounding = stage.gather(&[], &looks_at(start..start + 8), usize::MAX);
    assert_eq!(grounding.pieces[0].text, "line 200\n");
    assert_eq!(grounding.pieces[0].shown.reason, "selected");
    let around = grounding.pieces[1].shown.place.clone().unwrap();
    assert_eq!(
        (around.first_line, around.last_line),
        (Some(140), Some(260))
    );

    let cursor = stage.gather(&[], &looks_at(0..0), usize::MAX);
    assert_eq!(cursor.pieces.len(), 1, "nothing is selected");
    let past_the_end = stage.gather(&[], &looks_at(usize::MAX..usize::MAX), usize::MAX);
    assert_eq!(past_the_end.pieces.len(), 1);
}

#[test]
fn names_are_told_from_words() {
    let names = names_in(
        "Why does `parse_config` in src/lib.rs fail when HttpClient::new is called, e.g. twice?",
    );
    assert_eq!(
        names,
        ["parse_config", "src/lib.rs", "HttpClient::new", "e.g"]
    );
}

fn git(root: &Path, arguments: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "the user's own git")]
    let done = std::process::Command::new("git")
        .current_dir(root)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
        .args(["-c", "core.autocrlf=false"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

fn diff(stage: &Stage) -> Option<String> {
    uncommitted::diff(stage.workspace.root(), REFERENCE)
}

#[test]
fn no_program_that_a_repository_names_runs_for_its_uncommitted_changes() {
    let stage = Stage::new(&[
        ("a.txt", "one\n"),
        (".gitattributes", "*.txt filter=x diff=x\n"),
    ]);
    assert_eq!(diff(&stage), None, "no repository");
    git(stage.root(), &["init", "-q"]);
    git(stage.root(), &["add", "."]);
    git(stage.root(), &["commit", "-qm", "first"]);
    let trap = stage.dir.path().join("trap");
    let run = format!("touch {}; cat", trap.display());
    for name in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "diff.external",
        "diff.x.command",
        "diff.x.textconv",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
    ] {
        git(stage.root(), &["config", name, &run]);
    }
    assert!(!trap.exists(), "the trap is still set");
    fs::write(stage.root().join("a.txt"), "two\n").unwrap();
    let told = diff(&stage).unwrap();
    assert!(told.contains("-one\n+two\n"), "{told}");
    assert!(!trap.exists());
}

#[test]
fn uncommitted_changes_are_those_of_tracked_files_staged_or_not() {
    let stage = Stage::new(&[
        ("changed.txt", "one\ntwo\nthree\n"),
        ("gone.txt", "gone\n"),
        ("same.txt", "same\n"),
        ("ends.txt", "line\nends\n"),
        (".env", "A=b\n"),
        ("image.bin", "\0"),
        ("notes.txt", key_file().as_str()),
    ]);
    git(stage.root(), &["init", "-q"]);
    git(stage.root(), &["add", "."]);
    git(stage.root(), &["commit", "-qm", "first"]);
    assert_eq!(diff(&stage).as_deref(), Some(""));
    for (path, text) in [
        ("changed.txt", "one\n2\nthree\n"),
        ("ends.txt", "line\r\nends\r\n"),
        ("staged.txt", "new\n"),
        ("unknown.txt", "git does not know it\n"),
        (".env", "A=hunter2hunter2\n"),
        ("image.bin", "\0\0"),
        ("notes.txt", key_file().replace("0030\n", "0099\n").as_str()),
    ] {
        fs::write(stage.root().join(path), text).unwrap();
    }
    fs::remove_file(stage.root().join("gone.txt")).unwrap();
    git(stage.root(), &["add", "staged.txt"]);
    assert_eq!(
        diff(&stage).unwrap(),
        "--- a/changed.txt\n+++ b/changed.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\
         --- a/gone.txt\n+++ /dev/null\n@@ -1,1 +1,0 @@\n-gone\n\
         --- a/image.bin\n+++ b/image.bin\n[not shown: not text]\n\
         --- a/notes.txt\n+++ b/notes.txt\n[not shown: it holds a private key]\n\
         --- /dev/null\n+++ b/staged.txt\n@@ -1,0 +1,1 @@\n+new\n"
    );
}

#[cfg(unix)]
#[test]
fn a_tracked_file_that_became_a_way_out_is_not_read() {
    let stage = Stage::new(&[("in/a.txt", "one\n"), ("b.txt", "one\n")]);
    git(stage.root(), &["init", "-q"]);
    git(stage.root(), &["add", "."]);
    git(stage.root(), &["commit", "-qm", "first"]);
    let outside = stage.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.txt"), "not ours\n").unwrap();
    fs::remove_dir_all(stage.root().join("in")).unwrap();
    fs::remove_file(stage.root().join("b.txt")).unwrap();
    std::os::unix::fs::symlink(&outside, stage.root().join("in")).unwrap();
    std::os::unix::fs::symlink(outside.join("a.txt"), stage.root().join("b.txt")).unwrap();
    let told = diff(&stage).unwrap();
    assert!(!told.contains("not ours"), "{told}");
}
