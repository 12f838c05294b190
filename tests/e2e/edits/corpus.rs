//! A corpus of cases in a file, when one is named: `PAIRWRIGHT_APPLY_CORPUS`.

use std::env;
use std::fs;

use serde::Deserialize;

use super::score::{Case, Expected, Must, Tally, Verdict};

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
    let Some(path) = env::var_os("PAIRWRIGHT_APPLY_CORPUS") else {
        return;
    };
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    let cases: Vec<(String, Case, Expected)> = lines
        .map(|line| {
            let line: Line = serde_json::from_str(line).unwrap();
            let kind = line.mutation.unwrap_or(line.format);
            (kind, line.case, line.expected)
        })
        .collect();
    assert!(!cases.is_empty(), "the corpus is empty");
    let must_apply = cases.iter().filter(|c| c.2.must == Must::Apply).count();
    let tally = Tally::of(&cases);
    println!("{tally}{}", tally.notes.join("\n"));
    assert_eq!(tally.count(Verdict::Wrong), 0);
    assert!(
        tally.count(Verdict::Missed) * 50 < must_apply,
        "2 % or more of what must apply is missed"
    );
}
