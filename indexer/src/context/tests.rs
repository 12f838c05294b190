use std::time::Duration;

use super::*;
use crate::update::tests::Workspace;

/// (name, text) of files; `‸` in one of them is the cursor.
type Files = &'static [(&'static str, &'static str)];

/// (what is claimed, files, path, reason and part of the text of the first snippet).
const CASES: &[(&str, Files, [&str; 3])] = &[
    (
        "the name on the cursor's line",
        &[
            (
                "src/area.rs",
                "/// Of a circle.\npub fn circle_area(radius: f64) -> f64 {\n    3.0 * radius\n}\n",
            ),
            (
                "src/length.rs",
                "pub fn line_length(x: f64) -> f64 {\n    x\n}\n",
            ),
            ("src/main.rs", "fn main() {\n    let a = circle_area(‸\n}\n"),
        ],
        [
            "src/area.rs",
            "defines a name near the cursor",
            "pub fn circle_area(radius: f64) -> f64",
        ],
    ),
    (
        "the nearest of two names",
        &[
            ("far.py", "def far_away_name():\n    pass\n"),
            ("near.py", "def close_by_name():\n    pass\n"),
            (
                "main.py",
                "far_away_name()\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nclose_by_name()\n‸",
            ),
        ],
        [
            "near.py",
            "defines a name near the cursor",
            "def close_by_name():",
        ],
    ),
    (
        "the definer that is imported, of two",
        &[
            ("left/paint.py", "def mix_colours():\n    return 1\n"),
            ("right/brush.py", "def mix_colours():\n    return 2\n"),
            (
                "main.py",
                "from right.brush import mix_colours\n\nmix_colours(‸",
            ),
        ],
        [
            "right/brush.py",
            "defines a name near the cursor",
            "return 2",
        ],
    ),
    (
        "signatures of a long class instead of its body",
        &[
            (
                "shape.ts",
                "export class ShapeFactory {\n  first() {\n    return 1;\n  }\n  second() {\n    return 2;\n  }\n  third() {\n    return 3;\n  }\n  fourth() {\n    return 4;\n  }\n  fifth() {\n    return 5;\n  }\n}\n",
            ),
            ("main.ts", "const made = new ShapeFactory().‸"),
        ],
        [
            "shape.ts",
            "defines a name near the cursor",
            "ShapeFactory\n    first()",
        ],
    ),
    (
        "code like what is typed, when no name is defined elsewhere",
        &[
            (
                "old.py",
                "for row in cursor.fetchall():\n    print(row.customer, row.invoice)\n",
            ),
            ("other.py", "x = 1\n"),
            (
                "new.py",
                "for entry in cursor.fetchall():\n    print(entry.customer,‸",
            ),
        ],
        ["old.py", "similar code", "row.invoice"],
    ),
];

#[test]
fn a_completion_is_shown_first_what_defines_the_names_near_it() {
    for (claim, files, [path, reason, text]) in CASES {
        let (here, marked) = files.last().unwrap();
        let cursor = marked.find('‸').unwrap();
        let buffer = marked.replace('‸', "");
        let workspace = Workspace::new(&files[..files.len() - 1]);
        let index = workspace.settled();
        let query = CursorQuery {
            path: &(*here).into(),
            text: &buffer,
            cursor,
            limit: 4,
            budget: Tokens(400),
            until: None,
        };
        index.buffer_changed(&workspace.path(here), buffer.clone().into());
        assert!(index.wait_until_seen(Instant::now() + Duration::from_secs(60)));
        let snippets = index.reader().near_cursor(&query);
        let first = snippets
            .first()
            .unwrap_or_else(|| panic!("{claim}: nothing"));
        let shown = (first.path.as_str(), first.reason.as_str());
        assert_eq!(shown, (*path, *reason), "{claim}");
        assert!(first.text.contains(text), "{claim}: {first:?}");
        assert!(snippets.iter().all(|s| s.path.as_str() != *here), "{claim}");
        let spent: u32 = snippets.iter().map(|s| Tokens::estimate(&s.text).0).sum();
        assert!(spent <= 400, "{claim}");
    }
}

#[test]
fn a_lookup_that_is_late_gives_what_it_has() {
    let files = CASES[0].1;
    let workspace = Workspace::new(files);
    let reader = workspace.settled().reader();
    let query = CursorQuery {
        path: &"new.rs".into(),
        text: "circle_area(line_length(",
        cursor: 24,
        limit: 4,
        budget: Tokens(400),
        until: Some(Instant::now()),
    };
    let on_time = CursorQuery {
        until: None,
        ..query.clone()
    };
    assert_eq!(reader.near_cursor(&query).len(), 1);
    assert!(reader.near_cursor(&on_time).len() > 1);
}
