use super::*;
use crate::edit::parse::{Format, Op, parse};
use crate::edit::text::{Breaks, Text};

/// The lines, from one, at which a search block is found, and on which level.
fn found(file: &str, old: &str, new: &str) -> Vec<(usize, Level)> {
    let answer = format!("f\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n");
    let set = parse(&answer, Format::SearchReplace).unwrap();
    let Op::Lines { readings, hints } = &set.edits[0].op else {
        panic!("a block")
    };
    let text = Text::decode(file.into(), Breaks::Lf).unwrap();
    let places = find(&Index::new(&text), readings, hints).unwrap();
    places.iter().map(|p| (p.start() + 1, p.level)).collect()
}

#[test]
fn the_strictest_level_that_finds_a_block_decides() {
    assert_eq!(found("a\nb\na \n", "a\n", "x\n"), [(1, Level::Exact)]);
    assert_eq!(found("b\na \n", "a\n", "x\n"), [(2, Level::TrailingBlanks)]);
    assert_eq!(
        found("if x:\n    a\n    b\n", "a\nb\n", "a\nc\n"),
        [(2, Level::Indent)]
    );
    assert_eq!(
        found("v = a < b\n", "v = a &lt; b\n", "v = a &gt; b\n"),
        [(1, Level::Escapes)]
    );
}

#[test]
fn every_place_is_told_where_there_are_several() {
    assert_eq!(found("a\nb\na\n", "a\n", "x\n").len(), 2);
}

#[test]
fn likeness_never_finds_anything() {
    let file = "fn area(width: u32, height: u32) -> u32 {\n    width * height\n}\n";
    assert_eq!(
        found(file, "fn area(width: u32, hight: u32) -> u32 {\n", "x\n"),
        []
    );
    assert_eq!(
        found("    a\n  b\n", "a\n  b\n", "x\n"),
        [],
        "blanks that differ in two ways"
    );
}

#[test]
fn a_file_of_equal_lines_is_searched_in_bounded_time() {
    let file = "x\n".repeat(200_000);
    let old = "x\n".repeat(5_000) + "y\n";
    let started = std::time::Instant::now();
    assert_eq!(found(&file, &old, "z\n"), []);
    assert!(started.elapsed().as_secs() < 30);
}

/// A second place that was not reached must not make the first one the only one.
#[test]
fn a_search_that_comes_to_no_end_finds_nothing() {
    let text = Text::decode("b\na\n".repeat(3).into(), Breaks::Lf).unwrap();
    let block = Block::from_lines(&["a"], &["x"]);
    let find = |most_work| {
        let index = Index::with_limit(&text, most_work);
        find(&index, std::slice::from_ref(&block), &Hints::default())
    };
    for most_work in 0..3 {
        let refused = find(most_work).unwrap_err();
        assert_eq!(refused.kind, crate::edit::Kind::AmbiguousMatch);
    }
    assert_eq!(find(3).unwrap().len(), 3);
}

#[test]
fn what_comes_to_the_same_bytes_is_one_place() {
    let text = Text::decode("a\nb\nc\n".into(), Breaks::Lf).unwrap();
    // The same line changes, with other context around it.
    let readings = [
        Block::from_lines(&["a", "b"], &["a", "x"]),
        Block::from_lines(&["b", "c"], &["x", "c"]),
    ];
    let found = find(&Index::new(&text), &readings, &Hints::default());
    assert_eq!(found.unwrap().len(), 1);
    let other = [
        readings[0].clone(),
        Block::from_lines(&["b", "c"], &["y", "c"]),
    ];
    let found = find(&Index::new(&text), &other, &Hints::default());
    assert_eq!(found.unwrap().len(), 2);
}
