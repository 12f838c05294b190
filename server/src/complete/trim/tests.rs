use super::*;
use proptest::prelude::*;

const BLOCK: Extent = Extent::Block { max_lines: 8 };

/// Trims `raw` at `$0` of `at` and renders the text; `»n` when it takes the place of `n` bytes.
fn shown(at: &str, raw: &str, extent: Extent) -> String {
    let (before, after) = at.split_once("$0").unwrap();
    match trim(raw, extent, &Surroundings::new(before, after)) {
        None => "(nothing)".into(),
        Some(Trimmed { text, replaces: 0 }) => text,
        Some(Trimmed { text, replaces }) => format!("{text}»{replaces}"),
    }
}

#[track_caller]
fn check(extent: Extent, cases: &[(&str, &str, &str)]) {
    for (at, raw, expected) in cases {
        assert_eq!(shown(at, raw, extent), *expected, "{raw:?} at {at:?}");
    }
}

#[test]
fn a_line_ends_at_its_end() {
    check(
        Extent::Line,
        &[
            ("let x = $0", "1;\nlet y = 2;", "1;"),
            ("let x = $0", "1;   \r\n", "1;"),
            ("let x = $0", "1;\r", "1;"),
            ("$0", "\nfoo", "(nothing)"),
            ("let x = $0", "   ", "(nothing)"),
            ("let x = $0", ";", "(nothing)"),
        ],
    );
}

#[test]
fn what_stands_after_the_cursor_is_not_said_twice() {
    check(
        Extent::Line,
        &[
            ("foo($0)", "a, b)", "a, b)»1"),
            ("foo($0);", "a, b);", "a, b);»2"),
            ("foo($0);", "a, b)", "a, b"),
            ("foo($0)", "a, b", "a, b"),
            ("x = [$0]", "1, 2]", "1, 2]»1"),
            ("let $0 = 1;", "width = 1;", "width = 1;»5"),
            ("let $0 = 1;", "width =", "width"),
            ("s = \"$0\"", "hello\"", "hello\"»1"),
            ("foo(bar($0))", "x))", "x))»2"),
            ("foo($0)", "bar(x)", "bar(x)"),
            ("foo($0)", "bar(x))", "bar(x))»1"),
            ("foo($0)", "a) + bar(b)", "a) + bar(b)»1"),
            ("foo($0);", "bar(x)", "bar(x)"),
            ("foo($0);", "bar(x))", "bar(x)"),
            ("if foo($0) {", "bar(x)", "bar(x)"),
            ("if foo($0) {", "bar(x)) {", "bar(x)) {»3"),
            ("if foo($0) {", "a) && bar(b) {", "a) && bar(b) {»3"),
            ("print(foo($0))", "bar(x)", "bar(x)"),
            ("print(foo($0))", "bar(x))", "bar(x)"),
            ("foo($0)", "bar(x).baz", "bar(x).baz"),
            ("foo($0)", "a, b);", "a, b);»1"),
            ("foo(bar($0)", "x)", "x)"),
            ("foo(bar($0)", "x))", "x))»1"),
            ("print(\":(\", $0)", "x)", "x)»1"),
            ("f([$0]);", "g[1]", "g[1]"),
            ("let v: Vec<$0>", "Option<u8>", "Option<u8>"),
            (
                "let v: Vec<$0>",
                "u8> = f(|a| -> u8 { a })",
                "u8> = f(|a| -> u8 { a })»1",
            ),
            ("s = \"$0\"", "a\" + b + \"c", "a\" + b + \"c"),
            ("s = \"$0\"", "a\" + b + \"c\"", "a\" + b + \"c\"»1"),
            ("s = \"a\"$0\"", " + b + \"c", " + b + \"c"),
            ("\"\"\"One\n  two$0\"\"\"", "three.\"\"\"", "three.\"\"\"»3"),
            ("print(\"$0\")", "it's %s\" % name)", "it's %s\" % name)»2"),
            ("print(\"$0\")", "a\", \"b", "a\", \"b"),
            ("let x = $0   ", "value", "value»3"),
        ],
    );
}

#[test]
fn where_text_can_only_be_inserted_what_stands_after_the_cursor_is_left_out() {
    for (at, text, expected) in [
        ("foo($0)", "a, b)", Some("a, b")),
        ("foo($0)", "bar(x))", Some("bar(x)")),
        ("x = $0", "value", Some("value")),
        ("x = $0   ", "value", Some("value")),
        ("x = $0;", "f(a); g(b)", Some("f(a)")),
        ("foo($0);", "bar(x)); g(b)", Some("bar(x)")),
        ("s = \"$0\"", "a\" + b", Some("a")),
        ("foo($0)", ")", None),
    ] {
        let (before, after) = at.split_once("$0").unwrap();
        let around = Surroundings::new(before, after);
        let new = insertion(text, after.len(), &around);
        assert_eq!(new, expected, "{text:?} at {at:?}");
    }
}

#[test]
fn a_closed_bracket_is_not_closed_again() {
    check(
        Extent::Line,
        &[
            ("foo($0\n)", "a, b)", "a, b"),
            ("foo($0", "a, b)", "a, b)"),
            ("foo($0", "a, b))", "a, b)"),
            ("foo($0)", "a, b)))", "a, b)»1"),
            ("fn f() {\n    g($0", "x);", "x);"),
            ("fn f() {\n    g($0\n}", "x); }", "x);"),
            ("if c == $0", "'(' {", "'(' {"),
        ],
    );
}

#[test]
fn a_suggestion_that_says_what_a_neighbour_says_is_dropped() {
    check(
        Extent::Line,
        &[
            ("    $0\n    return total;", "return total;", "(nothing)"),
            ("    ret$0\n\n    return total;", "urn total;", "(nothing)"),
            ("import os\n$0", "import os", "(nothing)"),
            ("    }\n    $0", "foo();", "foo();"),
        ],
    );
}

#[test]
fn a_block_ends_where_the_code_goes_back() {
    check(
        BLOCK,
        &[
            (
                "fn f() {$0",
                "\n    one();\n    two();\n}\n\nfn g() {",
                "\n    one();\n    two();\n}",
            ),
            ("def f():$0", "\n    return 1\n\ndef g():", "\n    return 1"),
            (
                "def f():\n    $0",
                "a = 1\n    return a\nprint(f())",
                "a = 1\n    return a",
            ),
            (
                "if a {$0",
                "\n    b();\n} else {\n    c();\n}\nd();",
                "\n    b();\n} else {\n    c();\n}",
            ),
            (
                "try:$0",
                "\n    a()\nexcept E:\n    b()\nc()",
                "\n    a()\nexcept E:\n    b()",
            ),
            (
                "class A\n  def x$0",
                "\n    1\n  end\n\n  def y",
                "\n    1\n  end",
            ),
            ("    $0", "a();\n\n\n    b();", "a();"),
            ("    $0", "a();\n\n    b();", "a();\n\n    b();"),
        ],
    );
}

#[test]
fn a_block_is_bounded_and_stops_at_the_line_below() {
    let body: String = (0..20).map(|i| format!("\n    line{i}();")).collect();
    assert_eq!(shown("fn f() {$0", &body, BLOCK).matches("line").count(), 8);
    check(
        BLOCK,
        &[(
            "fn f() {$0\n    last();\n}",
            "\n    first();\n    last();\n}",
            "\n    first();",
        )],
    );
}

#[test]
fn endless_repetition_is_cut() {
    check(
        BLOCK,
        &[
            ("    $0", "go();\n    go();\n    go();\n    go();", "go();"),
            (
                "x = [$0",
                "foo, foo, foo, foo, foo, foo, foo, foo, ",
                "foo,",
            ),
            (
                "// $0",
                "----------------------------------------",
                "----------------------------------------",
            ),
        ],
    );
}

#[test]
fn a_stream_may_stop_once_more_text_changes_nothing() {
    let complete = |at: &str, raw, extent| {
        let (before, after) = at.split_once("$0").unwrap();
        is_complete(raw, extent, &Surroundings::new(before, after))
    };
    assert!(!complete("a = $0", "1", Extent::Line));
    assert!(complete("a = $0", "1\n", Extent::Line));
    assert!(!complete("fn f() {$0", "\n    a();\n    b()", BLOCK));
    assert!(
        !complete("fn f() {$0", "\n    a();\n}", BLOCK),
        "the closer may still grow"
    );
    assert!(complete("fn f() {$0", "\n    a();\n}\n\nfn", BLOCK));
}

proptest! {
    #[test]
    fn any_text_is_survived_and_nothing_is_invented(
        before in "[a-z(){}\\[\\]\"' \n\té]{0,60}",
        after in "[a-z(){}\\[\\]\"' \n\té]{0,60}",
        raw in "[a-z(){}\\[\\]\"' \n\té]{0,80}",
        block in any::<bool>(),
    ) {
        let around = Surroundings::new(&before, &after);
        let extent = if block { BLOCK } else { Extent::Line };
        if let Some(Trimmed { text, replaces }) = trim(&raw, extent, &around) {
            prop_assert!(raw.starts_with(&text));
            prop_assert!(replaces <= around.line_after.len());
            prop_assert!(around.line_after.is_char_boundary(replaces));
            prop_assert!(block || !text.contains('\n'));
        }
    }

    #[test]
    fn a_balanced_text_takes_the_place_of_no_closer(
        raw in proptest::collection::vec(
            proptest::sample::select(vec!["a", "f(x)", "g[1]", "{ y: 2 }", "\"s\"", " + ", "h(k[z])"]),
            1..4,
        ),
        pairs in proptest::collection::vec(proptest::sample::select(vec!["()", "[]", "{}", "<>"]), 1..4),
        in_string in any::<bool>(),
    ) {
        let raw = raw.concat();
        let quote = if in_string { "\"" } else { "" };
        let openers: String = pairs.iter().map(|pair| &pair[..1]).collect();
        let closers: String = pairs.iter().rev().map(|pair| &pair[1..]).collect();
        let (before, after) = (format!("call{openers}{quote}"), format!("{quote}{closers}"));
        if let Some(trimmed) = trim(&raw, Extent::Line, &Surroundings::new(&before, &after)) {
            prop_assert_eq!((&*trimmed.text, trimmed.replaces), (raw.trim_end(), 0));
        }
    }

    #[test]
    fn a_complete_stream_gives_the_same_however_it_goes_on(
        raw in "[a-z{}(): \n]{0,60}",
        more in "[a-z{}(): \n]{0,40}",
        block in any::<bool>(),
    ) {
        let around = Surroundings::new("fn main() {\n    if x {", "\n    }\n}\n");
        let extent = if block { Extent::Block { max_lines: 3 } } else { Extent::Line };
        if is_complete(&raw, extent, &around) {
            prop_assert_eq!(trim(&raw, extent, &around), trim(&format!("{raw}{more}"), extent, &around));
        }
    }
}
