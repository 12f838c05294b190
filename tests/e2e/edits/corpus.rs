//! A corpus of cases in a file, when one is named: `PAIRWRIGHT_APPLY_CORPUS`.

use std::env;
use std::fs;

use pairwright::cli::apply::batch::Case;
use serde::Deserialize;

use super::score::{Expected, Tally, Verdict};

#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    case: Case,
    format: String,
    #[serde(default)]
    mutation: Option<String>,
    expected: Expected,
}

#[test]
fn no_case_of_the_named_corpus_comes_out_wrong() {
    let Some(path) = env::var_os("PAIRWRIGHT_APPLY_CORPUS") else { return };
    let text = fs::read_to_string(&path).unwrap();
    let mut tally = Tally::default();
    let mut must_apply = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).unwrap();
        must_apply += usize::from(line.expected.must == super::score::Must::Apply);
        tally.add(line.mutation.as_deref().unwrap_or(&line.format), &line.case, &line.expected);
    }
    println!("{tally}{}", tally.notes.join("\n"));
    assert!(tally.total() > 0, "the corpus is empty");
    assert_eq!(tally.count(Verdict::Wrong), 0);
    assert!(tally.count(Verdict::Missed) * 50 < must_apply, "2 % or more of what must apply is missed");
}
