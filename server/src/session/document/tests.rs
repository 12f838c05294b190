use super::*;
use proptest::prelude::*;

const ENCODINGS: [PositionEncoding; 3] = [
    PositionEncoding::Utf8,
    PositionEncoding::Utf16,
    PositionEncoding::Utf32,
];

fn document(text: &str) -> Document {
    Document::new("file:///a.rs", "rust", 1, text)
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[test]
fn columns_are_counted_in_the_negotiated_encoding() {
    // é: 2 bytes, 1 unit; 😀: 4 bytes, 2 units.
    let doc = document("aé😀b\nx");
    let offsets = |p| ENCODINGS.map(|e| doc.offset(p, e));
    assert_eq!(offsets(at(0, 0)), [0, 0, 0]);
    assert_eq!(offsets(at(0, 3)), [3, 3, 7]);
    assert_eq!(
        offsets(at(0, 4)),
        [3, 7, 8],
        "inside a character is its start"
    );
    assert_eq!(
        offsets(at(0, 99)),
        [8, 8, 8],
        "past the end of the line is its end"
    );
    assert_eq!(
        offsets(at(9, 0)),
        [10, 10, 10],
        "past the last line is the end"
    );
    assert_eq!(offsets(at(u32::MAX, u32::MAX)), [10, 10, 10]);
}

#[test]
fn lines_end_at_all_three_terminators_and_at_nothing_else() {
    let doc = document("a\r\nb\rc\nd\u{2028}e\u{0b}f");
    assert_eq!(doc.text.len_lines(), 4);
    assert_eq!(
        doc.offset(at(0, 9), PositionEncoding::Utf16),
        1,
        "before the CRLF"
    );
    assert_eq!(
        doc.offset(at(1, 9), PositionEncoding::Utf16),
        4,
        "before the CR"
    );
    assert_eq!(doc.line_ending(), "\r\n");
}

#[test]
fn a_change_says_what_it_did() {
    let mut doc = document("one\ntwo\nthree");
    let change = Change {
        range: Some(at(0, 3)..at(1, 3)),
        text: "!".into(),
    };
    let edit = doc.apply(&change, PositionEncoding::Utf16);
    assert_eq!(doc.text.to_string(), "one!\nthree");
    assert_eq!(
        edit,
        Edit {
            start: 3,
            removed: 4,
            inserted: "!".into(),
            line: 0,
            line_delta: -1
        }
    );
}

#[test]
fn a_change_begins_where_it_changes_something() {
    let cases = [
        // text, from column, to column, its new text → the edit.
        ("total = ;", 0, 9, "total = f();", (8, 1, "f();")),
        ("a😀b", 0, 5, "a😁b", (1, 5, "😁b")),
        ("abc", 0, 3, "abc", (3, 0, "")),
        ("abc", 1, 3, "b", (2, 1, "")),
    ];
    for (old, from, to, new, (start, removed, inserted)) in cases {
        let mut doc = document(old);
        let change = Change {
            range: Some(at(0, from)..at(0, to)),
            text: new.into(),
        };
        let edit = doc.apply(&change, PositionEncoding::Utf16);
        let edit = (edit.start, edit.removed, &*edit.inserted);
        assert_eq!(edit, (start, removed, inserted), "{old:?} to {new:?}");
    }
}

#[test]
fn ranges_out_of_the_text_are_clamped() {
    for range in [at(7, 0)..at(9, 9), at(0, 50)..at(0, 60), at(1, 0)..at(0, 0)] {
        let mut doc = document("ab");
        doc.apply(
            &Change {
                range: Some(range),
                text: "c".into(),
            },
            PositionEncoding::Utf16,
        );
        assert_eq!(doc.text.to_string(), "abc");
    }
}

#[test]
fn a_full_text_change_is_reduced_to_the_part_that_differs() {
    let cases = [
        ("abc", "abXc", (2, 0, "X")),
        ("abXc", "abc", (2, 1, "")),
        ("aaa", "aaaa", (3, 0, "a")),
        ("é", "è", (0, 2, "è")),
        ("", "new", (0, 0, "new")),
        ("same", "same", (4, 0, "")),
    ];
    for (old, new, (start, removed, inserted)) in cases {
        let mut doc = document(old);
        let edit = doc.apply(
            &Change {
                range: None,
                text: new.into(),
            },
            PositionEncoding::Utf8,
        );
        assert_eq!(doc.text.to_string(), new);
        assert_eq!(
            (edit.start, edit.removed, &*edit.inserted),
            (start, removed, inserted),
            "{old:?} to {new:?}"
        );
    }
}

#[test]
fn only_local_file_uris_have_a_path() {
    let cases = [
        ("file:///a/b%20c.rs", Some("/a/b c.rs")),
        ("file://localhost/a", Some("/a")),
        ("file://server/share/a", None),
        ("untitled:Untitled-1", None),
        ("vscode-notebook-cell:/a#1", None),
        ("", None),
    ];
    for (uri, path) in cases {
        assert_eq!(path_of(uri), path.map(PathBuf::from), "{uri}");
    }
    let odd = Path::new("/a b/ü#?.rs");
    assert_eq!(path_of(&uri_of(odd)).as_deref(), Some(odd));
}

/// Text with everything that makes columns differ between encodings.
fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof!["[a-c]{0,3}", "\n|\r\n|\r", "é|😀|\u{2028}|\u{301}"],
        0..12,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn offset_and_position_are_inverse_on_every_character(text in text()) {
        let doc = document(&text);
        for encoding in ENCODINGS {
            for (offset, c) in text.char_indices() {
                // The two bytes of a CRLF share the position of the line's end.
                if c == '\n' && text[..offset].ends_with('\r') { continue; }
                let position = doc.position(offset, encoding);
                prop_assert_eq!(doc.offset(position, encoding), offset);
            }
        }
    }

    #[test]
    fn any_sequence_of_changes_equals_the_same_on_a_string(
        start in text(),
        changes in proptest::collection::vec((0u32..6, 0u32..8, 0u32..6, 0u32..8, text(), any::<bool>()), 0..8),
    ) {
        for encoding in ENCODINGS {
            let mut doc = document(&start);
            for (l0, c0, l1, c1, new, whole) in &changes {
                let mut expected = doc.text.to_string();
                let range = at(*l0, *c0)..at(*l1, *c1);
                let change = Change { range: (!whole).then_some(range.clone()), text: new.clone() };
                if *whole {
                    expected = new.clone();
                } else {
                    let from = doc.offset(range.start, encoding);
                    let to = doc.offset(range.end, encoding).max(from);
                    expected.replace_range(from..to, new);
                }
                let before = doc.text.to_string();
                let edit = doc.apply(&change, encoding);
                prop_assert_eq!(doc.text.to_string(), &*expected);
                let mut replayed = before;
                replayed.replace_range(edit.start..edit.start + edit.removed, &edit.inserted);
                prop_assert_eq!(replayed, expected, "the edit reported is the edit made");
            }
        }
    }
}
