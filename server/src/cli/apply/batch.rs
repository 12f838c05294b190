//! `pairwright apply --batch`: answers and files as JSON lines in, results as JSON lines out.
//!
//! Holds: no file is read or written; a broken line is one result that says so.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::edit::parse::{Format, parse};
use crate::edit::path::RepoPath;
use crate::edit::plan::{Options, Plan, plan};
use crate::edit::tree::MemoryTree;
use crate::edit::{Kind, Refusal};

/// Longest line that is read, in bytes.
const MAX_LINE: usize = 256 << 20;

/// One answer, and the files it is about.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) original: BTreeMap<String, Content>,
    /// What files were when the model read them.
    #[serde(default)]
    pub(super) base: Option<Base>,
    /// The file that edits without a usable path are for.
    #[serde(default)]
    pub(super) target: Option<String>,
    pub(super) model_output: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Bytes { b64: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Base {
    /// Of the one file the case has.
    Only(String),
    Files(BTreeMap<String, Content>),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub(super) id: String,
    pub(super) outcome: Verdict,
    /// Files that changed; `null` for one that is gone.
    pub(super) files: BTreeMap<String, Option<Content>>,
    pub(super) error: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Applied,
    Rejected,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Error {
    pub(super) kind: Kind,
    pub(super) message: String,
}

/// Reads cases from `input` and writes an outcome for each, in order.
///
/// # Errors
/// When `input` cannot be read or `output` not be written.
pub(super) fn run(mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if std::io::Read::take(&mut input, limit).read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let outcome = match serde_json::from_slice::<Case>(&line) {
            Ok(case) => decide(&case),
            Err(why) => rejected(
                format!("line {number}"),
                &Refusal::new(Kind::Malformed, format!("not a case: {why}")),
            ),
        };
        serde_json::to_writer(&mut output, &outcome)?;
        output.write_all(b"\n")?;
    }
}

/// Applies one answer in memory.
pub(super) fn decide(case: &Case) -> Outcome {
    match plan_case(case) {
        Ok(plan) => Outcome {
            id: case.id.clone(),
            outcome: Verdict::Applied,
            files: changed(plan),
            error: None,
        },
        Err(why) => rejected(case.id.clone(), &why),
    }
}

fn plan_case(case: &Case) -> Result<Plan, Refusal> {
    let denied = |why: crate::edit::path::Denied| Refusal::new(Kind::PathDenied, why.to_string());
    let mut tree = MemoryTree::default();
    for (path, content) in &case.original {
        tree.files
            .insert(RepoPath::parse(path).map_err(denied)?, content.bytes()?);
    }
    let target = case
        .target
        .as_deref()
        .map(RepoPath::parse)
        .transpose()
        .map_err(denied)?;
    let mut bases: BTreeMap<RepoPath, Vec<u8>> = BTreeMap::new();
    match &case.base {
        None => {}
        Some(Base::Only(text)) => {
            let only = target.clone().or_else(|| tree.files.keys().next().cloned());
            bases.extend(only.map(|path| (path, text.clone().into_bytes())));
        }
        Some(Base::Files(files)) => {
            for (path, content) in files {
                bases.insert(RepoPath::parse(path).map_err(denied)?, content.bytes()?);
            }
        }
    }
    let base = |path: &RepoPath| bases.get(path).cloned();
    let edits = parse(&case.model_output, Format::Auto)?;
    plan(
        &edits,
        &tree,
        &Options {
            target,
            base: Some(&base),
        },
    )
    .map_err(|refused| {
        let messages: Vec<String> = refused.iter().map(ToString::to_string).collect();
        Refusal::new(
            refused.first().map_or(Kind::Other, |r| r.kind),
            messages.join("\n"),
        )
    })
}

fn changed(plan: Plan) -> BTreeMap<String, Option<Content>> {
    let mut files = BTreeMap::new();
    for file in plan.files {
        if let Some(from) = file.moved_from.filter(|from| *from != file.path) {
            files.insert(from.into(), None);
        }
        if file.after != file.before || !files.is_empty() {
            files.insert(file.path.into(), file.after.map(Content::from_bytes));
        }
    }
    files
}

fn rejected(id: String, why: &Refusal) -> Outcome {
    Outcome {
        id,
        outcome: Verdict::Rejected,
        files: BTreeMap::new(),
        error: Some(Error {
            kind: why.kind,
            message: why.to_string(),
        }),
    }
}

impl Content {
    fn bytes(&self) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Bytes { b64 } => STANDARD.decode(b64).map_err(|why| {
                Refusal::new(
                    Kind::Malformed,
                    format!("a file is not valid base64: {why}"),
                )
            }),
        }
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(why) => Self::Bytes {
                b64: STANDARD.encode(why.as_bytes()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_that_is_not_utf_8_is_one_result_and_the_next_is_read() {
        let answer = "a.txt\n<<<<<<< SEARCH\none\n=======\ntwo\n>>>>>>> REPLACE\n";
        let case = |id: &str| {
            json!({ "id": id, "original": { "a.txt": "one\n" }, "model_output": answer })
                .to_string()
        };
        let (first, last) = (case("first"), case("last"));
        let input = [first.as_bytes(), b"\n\xff\n", last.as_bytes(), b"\n"].concat();
        let mut output = Vec::new();
        run(&*input, &mut output).unwrap();
        let results: Vec<Value> = output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let of = |at: usize| (results[at]["id"].as_str(), results[at]["outcome"].as_str());
        assert_eq!(of(0), (Some("first"), Some("applied")));
        assert_eq!(of(1), (Some("line 2"), Some("rejected")));
        assert_eq!(of(2), (Some("last"), Some("applied")));
    }
}
