use super::*;
use crate::session::Session;
use crate::session::document::{Change as Typed, Position, PositionEncoding};

/// What is typed: `«old⇒new»`. What is to be proposed then: `⟦old⇒new⟧`.
struct Case {
    before: String,
    /// Bytes of `before` that give way, and what is typed there.
    typed: Range<usize>,
    text: String,
    /// In the text after typing.
    expected: Option<(Range<usize>, String)>,
}

fn read(case: &str) -> Case {
    let (head, rest) = case.split_once('«').unwrap();
    let (edit, tail) = rest.split_once('»').unwrap();
    let (old, new) = edit.split_once('⇒').unwrap();
    let plain = |text: &str| -> (String, Option<(Range<usize>, String)>) {
        let Some((before, rest)) = text.split_once('⟦') else {
            return (text.to_owned(), None);
        };
        let (place, after) = rest.split_once('⟧').unwrap();
        let (was, proposed) = place.split_once('⇒').unwrap();
        let range = before.len()..before.len() + was.len();
        (
            format!("{before}{was}{after}"),
            Some((range, proposed.to_owned())),
        )
    };
    let (head, above) = plain(head);
    let (tail, below) = plain(tail);
    let moved = |(range, text): (Range<usize>, String)| {
        let by = head.len() + new.len();
        (range.start + by..range.end + by, text)
    };
    Case {
        typed: head.len()..head.len() + old.len(),
        text: new.to_owned(),
        expected: below.map(moved).or(above),
        before: format!("{head}{old}{tail}"),
    }
}

fn at(document: &Document, byte: usize) -> Position {
    document.position(byte, PositionEncoding::Utf8)
}

/// Deletes and types key by key, as people do; returns the byte of the cursor.
fn type_over(session: &Session, uri: &str, range: Range<usize>, text: &str) -> usize {
    session.set_encoding(PositionEncoding::Utf8);
    let mut keys = Vec::new();
    let old = session
        .snapshot()
        .document(uri)
        .unwrap()
        .slice(range.clone());
    for (at, key) in old.char_indices().rev() {
        let start = range.start + at;
        keys.push((start..start + key.len_utf8(), String::new()));
    }
    let mut cursor = range.start;
    for key in text.chars() {
        keys.push((cursor..cursor, key.to_string()));
        cursor += key.len_utf8();
    }
    for (bytes, text) in keys {
        let snapshot = session.snapshot();
        let document = snapshot.document(uri).unwrap();
        let change = Typed {
            range: Some(at(document, bytes.start)..at(document, bytes.end)),
            text,
        };
        session.change(uri, document.version + 1, &[change]);
    }
    cursor
}

fn proposed(session: &Session, cursor: usize, global: &[&str]) -> Option<NextEdit> {
    let snapshot = session.snapshot();
    let document = snapshot.documents.first().unwrap();
    let defines = |name: &str| global.contains(&name);
    next_edit(&snapshot, document, cursor, defines, |_| false)
}

#[test]
fn the_same_is_proposed_where_it_is_still_to_be_done() {
    #[rustfmt::skip]
    let cases = [
        ("a name, below", "let «total⇒sum» = 1;\nprint(⟦total⇒sum⟧, total);\n"),
        ("a name, from the top", "print(⟦total⇒sum⟧)\n«total⇒sum» = 2\n"),
        ("the middle of a name", "let user_«id⇒name» = 1;\nprint(⟦user_id⇒user_name⟧);\n"),
        ("the start of a name", "let «old⇒new»_path = 1;\nprint(⟦old_path⇒new_path⟧);\n"),
        ("a letter more", "let row«⇒s» = 1;\nprint(⟦row⇒rows⟧);\nrows\n"),
        ("not inside other names", "let «id⇒key» = width(grid);\nprint(⟦id⇒key⟧);\n"),
        ("a local name stays in its function",
         "def a(x):\n    «rows⇒lines» = x\n    return 1\n\ndef b(rows):\n    return rows\n"),
        ("a local name, in its function",
         "def b(rows):\n    return rows\n\ndef a(x):\n    «rows⇒lines» = x\n\n    return ⟦rows⇒lines⟧\n"),
        ("a parameter", "fn a(«size⇒len»: usize) -> usize {\n    ⟦size⇒len⟧ + 1\n}\nfn b(size: u8) {}\n"),
        ("a function's own name", "def «area⇒surface»(a):\n    return a\n\ndef b():\n    return ⟦area⇒surface⟧(1)\n"),
        ("a member is everywhere",
         "def a(self):\n    self.«rows⇒lines» = 1\n\ndef b(self):\n    return self.⟦rows⇒lines⟧\n"),
        ("an argument more, as in the definition",
         "fn send(a: A, deadline: D) {}\nsend(a«⇒, deadline»);\nsend(b⟦⇒, deadline⟧);\n"),
        ("an argument more, first",
         "def send(self, deadline, a):\nx.send(«⇒deadline, »a)\nx.send(⟦⇒deadline, ⟧b)\n"),
        ("the only argument", "fn send(deadline: D) {}\nsend(«⇒deadline»);\nsend(⟦⇒deadline⟧);\n"),
        ("an argument less",
         "fn send(a: A) {}\nsend(a«, deadline⇒»);\nsend(f(b, c)⟦, \"x, y\"⇒⟧);\n"),
        ("an argument more, of a function that is not known", "print(a«⇒, b»)\nprint(c)\n"),
        ("a parameter more, at the calls",
         "fn send(a: A«⇒, deadline: Instant») {\n}\nfn b() {\n    send(f(1, 2)⟦⇒, deadline⟧);\n}\n"),
        ("calls with other counts are left",
         "fn send(a: A, deadline: D) {}\nsend(a«⇒, deadline»);\nsend();\nsend(a, b);\n"),
        ("a use of a name", "let total = 1;\nprint(«total⇒other»);\nprint(total);\n"),
        ("a use on the right", "x = total\ny = «total⇒sum»\n"),
        ("an argument by name", "f(«total⇒sum»=1)\nf(total=2)\n"),
        ("a comparison", "if «total⇒sum» == 1 {}\ntotal\n"),
        ("an expression, once", "a = items«.get(0)⇒.first()»\nb = rows.get(0)\n"),
        ("a parameter with a default", "def send(a«⇒, deadline=None»):\n    pass\nsend(1)\n"),
        ("a number", "a = «1⇒2»\nb = 1\n"),
        ("a keyword", "«let⇒const» a = 1\nlet b = 2\n"),
        ("an operator", "a «+⇒-» b\nc + d\n"),
        ("one letter", "let «a⇒b» = 1;\nprint(a);\n"),
        ("nothing is left", "let «total⇒sum» = 1;\nprint(sum);\n"),
        ("new text only", "«⇒total» = 1\ntotals\n"),
        ("letters of other scripts", "let «größe⇒länge» = 1;\nprint(⟦größe⇒länge⟧);\n"),
    ];
    for (name, case) in cases {
        let case = read(case);
        let session = Session::default();
        session.open(Document::new("file:///a", "rust", 1, &case.before));
        let cursor = type_over(&session, "file:///a", case.typed.clone(), &case.text);
        let found = proposed(&session, cursor, &[]).map(|edit| (edit.range, edit.text));
        assert_eq!(found, case.expected, "{name}: {:?}", case.before);
    }
}

#[test]
fn each_place_taken_leads_to_the_next_and_then_to_other_documents() {
    let session = Session::default();
    session.open(Document::new("file:///b", "python", 1, "area(3)\nx.area\n"));
    session.open(Document::new(
        "file:///a",
        "python",
        1,
        "area = 1\nareas\narea\n",
    ));
    let mut cursor = type_over(&session, "file:///a", 0..4, "surface");
    let mut seen = Vec::new();
    while let Some(edit) = proposed(&session, cursor, &["area"]) {
        seen.push((edit.document.uri.to_string(), edit.range.clone()));
        let range = at(&edit.document, edit.range.start)..at(&edit.document, edit.range.end);
        let change = Typed {
            range: Some(range),
            text: edit.text.clone(),
        };
        session.change(&edit.document.uri, edit.document.version + 1, &[change]);
        cursor = edit.range.start + edit.text.len();
        assert!(seen.len() < 9, "{seen:?}");
    }
    let expected = [
        ("file:///a".to_owned(), 18..22),
        ("file:///b".to_owned(), 0..4),
        ("file:///b".to_owned(), 13..17),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_says_little_by_itself_is_followed_once_it_was_done_twice() {
    let text = format!("rows.get(0)\n{}rows.get(0)\nx.get(0)\n", "\n".repeat(30));
    let session = Session::default();
    session.open(Document::new("file:///a", "rust", 1, &text));
    let cursor = type_over(&session, "file:///a", 5..11, "first()");
    assert!(proposed(&session, cursor, &[]).is_none());
    let second = text.rfind("rows").unwrap() + 1 + "rows.".len();
    let cursor = type_over(&session, "file:///a", second..second + 6, "first()");
    let edit = proposed(&session, cursor, &[]).unwrap();
    assert_eq!(edit.document.slice(edit.range), "get(0)");
    assert_eq!(edit.text, "first()");
}

#[test]
fn a_change_that_is_unwanted_is_not_proposed() {
    let session = Session::default();
    session.open(Document::new("file:///a", "python", 1, "area = 1\narea\n"));
    let cursor = type_over(&session, "file:///a", 0..4, "surface");
    let unwanted = proposed(&session, cursor, &[]).unwrap().change;
    let snapshot = session.snapshot();
    let document = snapshot.documents.first().unwrap();
    let found = next_edit(&snapshot, document, cursor, |_| false, |c| *c == unwanted);
    assert!(found.is_none());
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is typed into whatever text, a proposal replaces whole characters.
        #[test]
        fn proposals_are_in_the_text(
            text in r#"([ab_(),."'é\n:{}<= ]|ab|fn |f\(){0,60}"#,
            start in 0_usize..60, len in 0_usize..4,
            typed in r#"[ab_(),"é\n ]{0,6}"#,
            cursor in 0_usize..80,
        ) {
            let session = Session::default();
            session.open(Document::new("file:///a", "python", 1, &text));
            let document = Document::new("file:///a", "python", 1, &text);
            let end = (start + len).min(text.len());
            let change = Typed {
                range: Some(at(&document, start)..at(&document, end.max(start))),
                text: typed,
            };
            session.change("file:///a", 2, &[change]);
            if let Some(edit) = proposed(&session, cursor, &[]) {
                let text = edit.document.text.to_string();
                prop_assert!(text.get(edit.range.clone()).is_some());
                prop_assert_ne!(text.get(edit.range), Some(edit.text.as_str()));
            }
        }
    }
}

#[test]
fn of_a_models_answer_only_an_edit_of_what_it_was_shown_is_taken() {
    let session = Session::default();
    let text =
        "def total(prices):\r\n    return sum(prices)\r\n\r\n# the sum\r\nprint(total([1]))\r\n";
    session.open(Document::new("file:///w/a.py", "python", 1, text));
    session.open(Document::new(
        "file:///w/.env",
        "dotenv",
        1,
        "KEY=hunter2hunter2\n",
    ));
    let at = text.find("sum(").unwrap();
    let cursor = type_over(&session, "file:///w/a.py", at..at + 3, "max");
    let snapshot = session.snapshot();
    let document = snapshot.document("file:///w/a.py").unwrap();
    let question = model::Question::new(&snapshot, document, cursor).unwrap();
    let block = |path: &str, old: &str, new: &str| {
        format!("{path}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n")
    };
    let proposed = |answer: &str| {
        let edit = question.read(answer)?;
        Some((edit.document.slice(edit.range), edit.text))
    };
    let taken = [
        (
            block("a.py", "# the sum", "# the largest"),
            ("sum", "largest"),
        ),
        (
            block("a.py", "# the sum", "# the sum\n# of all"),
            ("", "# of all\r\n"),
        ),
        (
            block("a.py", "# the sum\nprint(total([1]))", "print(total([1]))"),
            ("# the sum\r\n", ""),
        ),
    ];
    for (answer, (old, new)) in taken {
        assert_eq!(
            proposed(&answer),
            Some((old.to_owned(), new.to_owned())),
            "{answer}"
        );
    }
    let refused = [
        "NONE".to_owned(),
        String::new(),
        "You should rename it.".to_owned(),
        block("a.py", "    return max(prices)", "    return sum(prices)"),
        block("a.py", "# a sum", "# the largest"),
        block("b.py", "# a sum", "# the largest"),
        block(".env", "KEY=hunter2hunter2", "KEY="),
        block("../../etc/passwd", "# the sum", "# the largest"),
        block("a.py", "# the sum", "# the sum"),
        "a.py\n<<<<<<< SEARCH\n# the sum\n=======\n".to_owned(),
    ];
    for answer in refused {
        assert_eq!(proposed(&answer), None, "{answer}");
    }
}
