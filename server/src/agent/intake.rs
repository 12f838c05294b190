//! What a request is taken for: which kind of work, and how much is at stake.
//!
//! Holds: both follow from the words of the request, the mode and the rules, and from nothing that a
//! model or a repository says. Words are no wall: what a kind is found for can only tighten what a
//! task may do ([`super::policy`]), so a request that is taken for another kind is held by the rules
//! that hold for all.

use std::path::Path;

use super::policy::{Access, Policy, Ruling};
use super::{Mode, Place};
use crate::edit::path::{Denied, RepoPath};
use crate::store::events::{Risk, Scenario};

/// Words that tell a kind of work, as they begin. The first row that has a word of the request is
/// what it is taken for: what reaches furthest comes first.
const WORDS: &[(Scenario, &[&str])] = &[
    (
        Scenario::Operations,
        &[
            "deploy",
            "rollout",
            "release",
            "production",
            "staging",
            "infrastructure",
            "provision",
            "kubernetes",
            "k8s",
            "helm",
            "terraform",
            "ansible",
            "docker",
            "pipeline",
            "workflow",
            "=ci",
            "=cd",
        ],
    ),
    (
        Scenario::Upgrade,
        &["upgrad", "bump", "dependenc", "dependabot", "lockfile"],
    ),
    (
        Scenario::Fix,
        &[
            "fix", "=bug", "=bugs", "broken", "crash", "panics", "regress", "repair", "hotfix",
            "fails", "failing", "failure", "wrong",
        ],
    ),
    (
        Scenario::Refactor,
        &[
            "refactor",
            "renam",
            "restructur",
            "reorgani",
            "simplif",
            "dedup",
            "cleanup",
            "=extract",
            "=inline",
        ],
    ),
    (
        Scenario::Test,
        &["=test", "=tests", "testing", "coverage", "fixture"],
    ),
    (
        Scenario::Docs,
        &[
            "=doc",
            "=docs",
            "docstring",
            "document",
            "readme",
            "changelog",
            "=comment",
            "=comments",
            "typo",
        ],
    ),
    (
        Scenario::Feature,
        &[
            "=add",
            "=adds",
            "implement",
            "support",
            "=create",
            "introduc",
            "feature",
            "=new",
        ],
    ),
];

/// How a request begins that asks.
const ASKING: &[&str] = &[
    "what", "why", "how", "where", "which", "who", "when", "does", "is", "are", "can", "explain",
    "describe", "show", "find", "list",
];

/// Words of what is not taken back by rejecting a hunk, as they begin; `=` is a whole word.
const RISKY: &[&str] = &[
    // Data.
    "migrat",
    "=delete",
    "=deletes",
    "deleting",
    "deletion",
    "=drop",
    "erase",
    "wipe",
    "purge",
    // Who may do what.
    "=auth",
    "authent",
    "authoriz",
    "authoris",
    "=login",
    "password",
    "permission",
    "credential",
    "secret",
    "encrypt",
    "decrypt",
    "crypto",
    "=sudo",
    // Money.
    "payment",
    "billing",
    "invoice",
    // What runs elsewhere.
    "deploy",
    "release",
    "production",
    "infrastructure",
    "kubernetes",
    "terraform",
    "pipeline",
    "workflow",
    "=ci",
    "=cd",
];

/// What a request is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub scenario: Scenario,
    pub risk: Risk,
}

impl Taken {
    /// Judges a request. `is_protected` says that the task works on a branch where the user decides
    /// about every change.
    ///
    /// The risk is low where nothing can be changed or run. It is high in the mode `auto`, on a
    /// protected branch, and where the request has a risky word or names a file that the rules do not
    /// just let be changed, such as those that other machines run; else it is medium.
    pub fn of(prompt: &str, mode: Mode, is_protected: bool, policy: &Policy) -> Self {
        let words = words(prompt);
        let risk = if !mode.changes() {
            Risk::Low
        } else if mode == Mode::Auto
            || is_protected
            || has_any(&words, RISKY)
            || names_guarded(prompt, policy)
        {
            Risk::High
        } else {
            Risk::Medium
        };
        Self {
            scenario: scenario(prompt, &words, mode),
            risk,
        }
    }
}

/// Whether the task works where the user decides about every change.
pub(super) fn is_protected(policy: &Policy, root: &Path, place: Place) -> bool {
    place == Place::Folder && policy.protected_branch(root).is_some()
}

/// What asks and can change nothing is a question, whatever it is about.
fn scenario(prompt: &str, words: &[String], mode: Mode) -> Scenario {
    let first = words.first().map(String::as_str);
    let asks = first.is_some_and(|w| ASKING.contains(&w)) || prompt.trim_end().ends_with('?');
    if asks && !mode.changes() {
        return Scenario::Question;
    }
    let found = WORDS.iter().find(|(_, known)| has_any(words, known));
    match found {
        Some((scenario, _)) => *scenario,
        None if asks => Scenario::Question,
        None => Scenario::Other,
    }
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let words = parts.filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn has_any(words: &[String], known: &[&str]) -> bool {
    let is = |word: &str, known: &str| match known.strip_prefix('=') {
        Some(whole) => word == whole,
        None => word.starts_with(known),
    };
    words.iter().any(|word| known.iter().any(|k| is(word, k)))
}

/// Whether a file is named that the rules do not just let be changed.
fn names_guarded(prompt: &str, policy: &Policy) -> bool {
    let parts = prompt.split(|c: char| c.is_whitespace() || "\"'`()[]<>,;:".contains(c));
    let named = parts.map(|part| part.trim_end_matches(['.', '?', '!']).trim_end_matches('/'));
    let mut paths = named.filter(|part| part.contains(['/', '.']) && part.len() < 1_000);
    paths.any(|path| match RepoPath::parse(path) {
        Ok(path) => policy.judge_path(Access::Write, path.as_str(), &[]).ruling > Ruling::Allow,
        Err(why) => matches!(why, Denied::VersionControl),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::policy::Sources;

    /// One request a line, with what it is taken for in the mode `review`.
    const REVIEW: &str = "
fix medium: area_of_square is wrong. Fix it and say in the README that rectangles are there too.
fix medium: The parser crashes on empty input
fix high: Fix the failing login
refactor medium: Rename `area` to `surface` everywhere
refactor medium: Simplify this function
test medium: Write tests for the parser
test medium: add a test for lists
docs medium: Document the public functions
docs medium: There is a typo in the tutorial
docs high: Update the docs of .vscode/tasks.json
feature medium: Add a flag --json
feature high: Implement a migration that drops the old table
feature high: support OAuth and passwords
upgrade medium: Bump serde to 1.1
upgrade medium: update the dependencies
operations high: Deploy it to production
operations high: make the CI green
operations high: Why does the release workflow fail?
question medium: Why is this slow?
question medium: Explain the cache to me
question medium: is it dead code
other medium: Mach das schneller
other medium: circumvent
other high: delete everything
other high: change AGENTS.md
other high: change `.pairwright/policy.toml`.
other medium: move src/a.rs to src/b.rs
";

    #[test]
    fn requests_are_told_apart_by_their_words() {
        let policy = policy();
        let mut wrong = Vec::new();
        for line in REVIEW.lines().filter(|line| !line.is_empty()) {
            let (expected, prompt) = line.split_once(": ").unwrap();
            let taken = Taken::of(prompt, Mode::Review, false, &policy);
            let found = format!("{} {}", taken.scenario.name(), taken.risk.name());
            if found != expected {
                wrong.push(format!("{found} instead of {line}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_a_task_may_do_and_where_count_for_the_risk() {
        let policy = policy();
        let of = |prompt: &str, mode, is_protected| {
            let taken = Taken::of(prompt, mode, is_protected, &policy);
            (taken.scenario, taken.risk)
        };
        let low = (Scenario::Question, Risk::Low);
        assert_eq!(of("Why does the login fail?", Mode::ReadOnly, true), low);
        assert_eq!(
            of("Deploy it", Mode::Plan, false),
            (Scenario::Operations, Risk::Low)
        );
        assert_eq!(
            of("Add it", Mode::Auto, false),
            (Scenario::Feature, Risk::High)
        );
        assert_eq!(
            of("Add it", Mode::Review, true),
            (Scenario::Feature, Risk::High)
        );
        assert_eq!(
            of("Add it", Mode::Review, false),
            (Scenario::Feature, Risk::Medium)
        );
    }

    fn policy() -> Policy {
        let root = tempfile::tempdir().unwrap();
        let sources = Sources {
            config: None,
            root: root.path(),
            task: None,
        };
        Policy::load(sources).unwrap()
    }
}
