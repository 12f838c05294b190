//! Judging an outcome: the number that matters is how often bytes come out wrong.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pairwright::cli::apply::batch::{self, Case, Content, Outcome};
use serde::Deserialize;

/// What an answer must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Expected {
    pub(super) must: Must,
    #[serde(default)]
    pub(super) files: BTreeMap<String, Option<Content>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Must {
    Apply,
    Reject,
    /// Done just so, or refused; anything else is silent corruption.
    ApplyOrReject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Correct,
    /// Refused, though it may be done.
    Declined,
    /// Refused, though it must be done.
    Missed,
    /// Files changed, and not as expected.
    Wrong,
}

/// Verdicts counted by the kind of case.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<(String, Verdict), usize>,
    pub(super) notes: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, kind: &str, case: &Case, expected: &Expected) {
        let outcome = batch::decide(case);
        let verdict = judge(case, &outcome, expected);
        *self.counts.entry((kind.to_owned(), verdict)).or_default() += 1;
        if matches!(verdict, Verdict::Wrong | Verdict::Missed) {
            let why = outcome.error.map(|e| format!("{:?}: {}", e.kind, e.message));
            self.notes.push(format!("{verdict:?} {} {}", case.id, why.unwrap_or_default()));
        }
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.counts.iter().filter(|((_, v), _)| *v == verdict).map(|(_, n)| n).sum()
    }

    pub(super) fn total(&self) -> usize {
        self.counts.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<&String> = self.counts.keys().map(|(kind, _)| kind).collect();
        kinds.dedup();
        for kind in kinds {
            write!(f, "{kind:28}")?;
            for verdict in [Verdict::Correct, Verdict::Declined, Verdict::Missed, Verdict::Wrong] {
                let n = self.counts.get(&(kind.clone(), verdict)).copied().unwrap_or_default();
                write!(f, " {verdict:?} {n:4}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn judge(case: &Case, outcome: &Outcome, expected: &Expected) -> Verdict {
    let original: BTreeMap<&str, Vec<u8>> =
        case.original.iter().map(|(path, content)| (path.as_str(), bytes(content))).collect();
    let changed = |files: &BTreeMap<String, Option<Content>>| -> BTreeMap<String, Option<Vec<u8>>> {
        let with_bytes = files.iter().map(|(path, content)| (path.clone(), content.as_ref().map(bytes)));
        with_bytes.filter(|(path, bytes)| original.get(path.as_str()) != bytes.as_ref()).collect()
    };
    let (got, wanted) = (changed(&outcome.files), changed(&expected.files));
    if outcome.outcome == batch::Verdict::Rejected {
        return match expected.must {
            _ if !got.is_empty() => Verdict::Wrong,
            Must::Apply => Verdict::Missed,
            Must::Reject => Verdict::Correct,
            Must::ApplyOrReject => Verdict::Declined,
        };
    }
    let is_right = match expected.must {
        Must::Reject => got.is_empty(),
        Must::Apply | Must::ApplyOrReject => got == wanted,
    };
    if is_right { Verdict::Correct } else { Verdict::Wrong }
}

pub(super) fn bytes(content: &Content) -> Vec<u8> {
    match content {
        Content::Text(text) => text.clone().into_bytes(),
        Content::Bytes { b64 } => STANDARD.decode(b64).expect("because the case is valid"),
    }
}

pub(super) fn content(bytes: &[u8]) -> Content {
    match std::str::from_utf8(bytes) {
        Ok(text) => Content::Text(text.to_owned()),
        Err(_) => Content::Bytes { b64: STANDARD.encode(bytes) },
    }
}
