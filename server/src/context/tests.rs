use super::*;
use crate::session::Session;
use crate::session::document::{Change, Position};

/// Opens `files`, the last one last, and gathers the context at `$0` in the first.
fn gathered(files: &[(&str, &str)]) -> (Context, Session) {
    let session = Session::default();
    session.set_roots(vec!["/w".into()]);
    for (name, text) in files.iter().rev() {
        session.open(Document::new(
            &format!("file:///w/{name}"),
            "rust",
            1,
            &text.replace("$0", ""),
        ));
    }
    let offset = files[0].1.find("$0").unwrap();
    let context = at(&session, offset);
    (context, session)
}

fn at(session: &Session, offset: usize) -> Context {
    let snapshot = session.snapshot();
    gather(
        &snapshot,
        &snapshot.documents[0],
        offset,
        "",
        &Similar::default(),
        Vec::new(),
    )
    .unwrap()
}

#[test]
fn the_windows_are_the_lines_around_the_cursor() {
    let (context, _) = gathered(&[("a.rs", "one\ntwo$0\nthree\n")]);
    assert_eq!(
        (&*context.prefix, &*context.suffix),
        ("one\ntwo", "\nthree\n")
    );
    assert_eq!(context.path, "a.rs");
}

#[test]
fn lines_end_alike_whatever_they_end_with_in_the_document() {
    let alike = "fn area(width: u32, height: u32) {\r\n    width * height\r\n}\r\n";
    let (context, _) = gathered(&[
        (
            "a.rs",
            "fn area(width: u32)\r\n    width * height$0\r\n}\r\n",
        ),
        ("b.rs", alike),
    ]);
    assert_eq!(
        (&*context.prefix, &*context.suffix),
        ("fn area(width: u32)\n    width * height", "\n}\n")
    );
    assert_eq!(context.snippets[0].text, alike.replace('\r', ""));
}

#[test]
fn windows_are_bounded_and_start_at_steady_lines() {
    let lines: String = (0..500).map(|i| format!("line {i}\n")).collect();
    let first_line = |offset: usize| {
        let session = Session::default();
        session.open(Document::new("file:///w/a.rs", "rust", 1, &lines));
        at(&session, offset)
            .prefix
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let offset = lines.find("line 301").unwrap();
    assert_eq!(first_line(offset), "line 176");
    assert_eq!(
        first_line(offset + 18),
        "line 176",
        "two lines on, the window has not moved"
    );
    let wide = "x".repeat(100_000);
    let (context, _) = gathered(&[("a.rs", &format!("{wide}$0{wide}"))]);
    assert_eq!(
        (context.prefix.len(), context.suffix.len()),
        (PREFIX_BYTES, SUFFIX_BYTES)
    );
}

#[test]
fn open_files_that_share_names_are_quoted_best_first_within_the_caps() {
    let query = "fn area(width: u32, height: u32) { width * height $0}";
    let alike = "fn perimeter(width: u32, height: u32) { 2 * (width + height) }";
    let (context, _) = gathered(&[
        ("a.rs", query),
        ("shape.rs", alike),
        ("other.rs", "fn main() {}"),
    ]);
    let quoted: Vec<&str> = context.snippets.iter().map(|s| &*s.path).collect();
    assert_eq!(quoted, ["shape.rs"]);
    let big = format!("{alike}\n").repeat(2000);
    let files: Vec<(String, &str)> = (0..20).map(|i| (format!("f{i}.rs"), &*big)).collect();
    let mut files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (&**n, *t)).collect();
    files.insert(0, ("a.rs", query));
    let (context, _) = gathered(&files);
    assert_eq!(context.snippets.len(), SNIPPETS);
    assert!(context.snippets.iter().map(|s| s.text.len()).sum::<usize>() <= SNIPPETS_BYTES);
}

/// Clients are told to count versions up; not all do.
#[test]
fn a_text_that_became_another_under_its_version_is_read_anew() {
    let query = "fn area(width: u32, height: u32) { width * height }";
    let below = format!("{}{query}\n", "\n".repeat(60));
    let (_, session) = gathered(&[(
        "a.rs",
        "fn area(width: u32, height: u32) { width * height $0}",
    )]);
    let similar = Similar::default();
    let gathered = || {
        let snapshot = session.snapshot();
        let document = snapshot.document("file:///w/a.rs").unwrap();
        let gathered = gather(
            &snapshot,
            document,
            query.len() - 1,
            "",
            &similar,
            Vec::new(),
        );
        gathered.unwrap().snippets
    };
    session.open(Document::new("file:///w/b.rs", "rust", 3, &below));
    assert!(gathered()[0].text.contains(query));
    let change = Change {
        range: None,
        text: "// nothing here".into(),
    };
    session.change("file:///w/b.rs", 3, &[change]).unwrap();
    let quoted: Vec<_> = gathered().into_iter().map(|s| s.reason).collect();
    assert_eq!(quoted, [Reason::RecentEdit]);
}

#[test]
fn files_that_hold_secrets_are_never_quoted() {
    let text = "fn area(width: u32, height: u32)";
    for name in [
        ".env",
        ".env.local",
        "prod.env",
        "id_rsa",
        "server.pem",
        ".npmrc",
        "credentials",
    ] {
        let (context, _) = gathered(&[
            ("a.rs", "fn area(width: u32, height: u32) $0"),
            (name, text),
        ]);
        assert_eq!(context.snippets, [], "{name}");
    }
    let (context, _) = gathered(&[
        ("a.rs", "fn area(width: u32, height: u32) $0"),
        (".env.example", text),
    ]);
    assert_eq!(context.snippets.len(), 1);
}

#[test]
fn secrets_are_taken_out_of_all_that_is_quoted() {
    const KEY: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let with_key = |text: &str| text.replace("KEY", KEY);
    let query = with_key("fn area(width: u32) { open(\"KEY\"); width * $0 }\nlet key = \"KEY\";\n");
    let alike = with_key("fn area(width: u32) { open(\"KEY\"); width * width }\n");
    let (context, _) = gathered(&[("a.rs", &query), ("b.rs", &alike)]);
    let Context { prefix, suffix, .. } = context;
    assert_eq!(
        prefix,
        "fn area(width: u32) { open(\"[redacted key]\"); width * "
    );
    assert_eq!(suffix, " }\nlet key = \"[redacted key]\";\n");
    let quoted = &context.snippets[0].text;
    assert_eq!(*quoted, alike.replace(KEY, "[redacted key]"));
}

#[test]
fn nothing_is_quoted_where_the_cursor_is_in_a_secret() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIE\nIBAAK\n-----END PRIVATE KEY-----\n";
    let token = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let password = "password = \"hunter2hunter2\"\n";
    for (text, cursor, is_quoted) in [
        (key, key.find("IBA"), false),
        (key, Some(key.len()), true),
        (token, Some(12), false),
        (token, Some(token.len() - 1), false),
        (token, Some(token.len()), true),
        (password, password.find("hunter2"), false),
        (password, password.find("2hunter"), false),
        (password, password.find("\"\n"), true),
        (password, Some(0), true),
    ] {
        let session = Session::default();
        session.open(Document::new("file:///w/a.py", "python", 1, text));
        let snapshot = session.snapshot();
        let similar = Similar::default();
        let cursor = cursor.unwrap();
        let context = gather(
            &snapshot,
            &snapshot.documents[0],
            cursor,
            "",
            &similar,
            Vec::new(),
        );
        assert_eq!(context.is_some(), is_quoted, "{text} at {cursor}");
    }
}

#[test]
fn of_a_private_key_in_another_file_no_window_is_quoted() {
    let lines = "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn\n".repeat(60);
    for marks in ["", " PRIVATE KEY-----"] {
        let text = format!("fine = 1\n-----BEGIN{marks}\n{lines}-----END{marks}\n");
        let files = [
            ("a.rs", "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn $0"),
            ("b.txt", &text),
        ];
        let (context, session) = gathered(&files);
        let is_quoted = marks.is_empty();
        assert_eq!(!context.snippets.is_empty(), is_quoted, "alike {marks}");
        let context = with_an_edit(&session, "file:///w/b.txt", 30);
        let reasons: Vec<Reason> = context.snippets.iter().map(|s| s.reason).collect();
        assert_eq!(
            reasons.contains(&Reason::RecentEdit),
            is_quoted,
            "{reasons:?}"
        );
        assert_eq!(!reasons.is_empty(), is_quoted, "edited {marks}");
    }
}

/// Edits a line of another file, and gathers the context at the start of `a.rs`.
fn with_an_edit(session: &Session, uri: &str, line: u32) -> Context {
    let start = Position { line, column: 0 };
    let change = Change {
        range: Some(start..start),
        text: "edited now".into(),
    };
    session.change(uri, 2, &[change]).unwrap();
    session.focus("file:///w/a.rs");
    at(session, 0)
}

#[test]
fn the_last_edits_in_other_files_are_quoted() {
    let (_, session) = gathered(&[("a.rs", "$0"), ("b.rs", &"\nlong ago".repeat(200))]);
    let context = with_an_edit(&session, "file:///w/b.rs", 100);
    assert_eq!(context.snippets.len(), 1);
    assert!(
        context.snippets[0].text.contains("edited now")
            && context.snippets[0].reason == Reason::RecentEdit
    );
}
