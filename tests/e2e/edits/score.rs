//! Judging what `pairwright apply --batch` makes of cases: the number that matters is how often
//! bytes come out wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// One answer, and the files it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) original: BTreeMap<String, Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    pub(super) model_output: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Bytes { b64: String },
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                b64: STANDARD.encode(bytes),
            },
        }
    }
}

/// What the program says about a case.
#[derive(Debug, Deserialize)]
struct Outcome {
    id: String,
    outcome: String,
    files: BTreeMap<String, Option<Content>>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    kind: String,
    message: String,
}

/// What an answer must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Expected {
    pub(super) must: Must,
    #[serde(default)]
    pub(super) files: BTreeMap<String, Option<Content>>,
    /// The kind of refusal.
    #[serde(default)]
    pub(super) error: Option<String>,
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
    /// The kind of refusal of each case.
    pub(super) kinds: Vec<Option<String>>,
}

impl Tally {
    /// Runs the program over `cases`, each with its kind, and judges what comes back.
    pub(super) fn of(cases: &[(String, Case, Expected)]) -> Self {
        let mut tally = Self::default();
        for ((kind, case, expected), outcome) in cases.iter().zip(outcomes(cases)) {
            assert_eq!(
                outcome.id, case.id,
                "outcomes are in the order of the cases"
            );
            let verdict = judge(case, &outcome, expected);
            *tally.counts.entry((kind.clone(), verdict)).or_default() += 1;
            if matches!(verdict, Verdict::Wrong | Verdict::Missed) {
                let why = outcome.error.as_ref().map_or("", |e| &e.message);
                tally.notes.push(format!("{verdict:?} {} {why}", case.id));
            }
            tally.kinds.push(outcome.error.map(|e| e.kind));
        }
        tally
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.counts
            .iter()
            .filter(|((_, v), _)| *v == verdict)
            .map(|(_, n)| n)
            .sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<&String> = self.counts.keys().map(|(kind, _)| kind).collect();
        kinds.dedup();
        for kind in kinds {
            write!(f, "{kind:28}")?;
            for verdict in [
                Verdict::Correct,
                Verdict::Declined,
                Verdict::Missed,
                Verdict::Wrong,
            ] {
                let n = self
                    .counts
                    .get(&(kind.clone(), verdict))
                    .copied()
                    .unwrap_or_default();
                write!(f, " {verdict:?} {n:4}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program itself is what is judged"
)]
fn outcomes(cases: &[(String, Case, Expected)]) -> Vec<Outcome> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pairwright"))
        .args(["apply", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = program.stdin.take().unwrap();
    let lines: Vec<String> = cases
        .iter()
        .map(|(_, case, _)| serde_json::to_string(case).unwrap() + "\n")
        .collect();
    let feed = std::thread::spawn(move || {
        for line in lines {
            input.write_all(line.as_bytes()).unwrap();
        }
    });
    let output = program.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let outcomes: Vec<Outcome> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(outcomes.len(), cases.len(), "one outcome for each case");
    outcomes
}

fn judge(case: &Case, outcome: &Outcome, expected: &Expected) -> Verdict {
    let original: BTreeMap<&str, Vec<u8>> = case
        .original
        .iter()
        .map(|(path, content)| (path.as_str(), bytes(content)))
        .collect();
    let changed = |files: &BTreeMap<String, Option<Content>>| -> BTreeMap<String, Option<Vec<u8>>> {
        let with_bytes = files
            .iter()
            .map(|(path, content)| (path.clone(), content.as_ref().map(bytes)));
        with_bytes
            .filter(|(path, bytes)| original.get(path.as_str()) != bytes.as_ref())
            .collect()
    };
    let (got, wanted) = (changed(&outcome.files), changed(&expected.files));
    if outcome.outcome == "rejected" {
        return match expected.must {
            _ if !got.is_empty() => Verdict::Wrong,
            Must::Apply => Verdict::Missed,
            Must::Reject => Verdict::Correct,
            Must::ApplyOrReject => Verdict::Declined,
        };
    }
    assert_eq!(outcome.outcome, "applied", "{}", case.id);
    let is_right = match expected.must {
        Must::Reject => got.is_empty(),
        Must::Apply | Must::ApplyOrReject => got == wanted,
    };
    if is_right {
        Verdict::Correct
    } else {
        Verdict::Wrong
    }
}

fn bytes(content: &Content) -> Vec<u8> {
    match content {
        Content::Text(text) => text.clone().into_bytes(),
        Content::Bytes { b64 } => STANDARD.decode(b64).expect("because the case is valid"),
    }
}
