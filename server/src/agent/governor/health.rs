//! Whether the tools that change and run things do what they are for.
//!
//! Holds: a command that runs and fails has done what it is for, however often; so has a call that
//! was not allowed. What is counted follows from the record.

use std::collections::HashMap;

use super::hash;
use crate::agent::{tool, tools};
use crate::store::events::Outcome;

/// Calls of a tool that could not do their work, one behind the other.
const FAILING: u32 = 5;
/// Times that the same tests ended in another way although no file was changed.
const FLAKY: u32 = 2;

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub tool: &'a str,
    /// In one form, without secrets.
    pub arguments: &'a str,
    pub outcome: Outcome,
    /// Whether a command has run to its end for it.
    pub has_run: bool,
    /// What the proposal is after the call, as in its footprint.
    pub state: u64,
}

/// What cannot be relied on, in words: `5 failures of edit, one behind the other`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing(pub String);

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: HashMap<String, u32>,
    /// How tests ended last, by what was run on which files.
    passed: HashMap<u64, bool>,
    n_flips: u32,
}

impl Health {
    /// Takes in a call. Returns what is wrong when it has just become too much.
    pub(super) fn observe(&mut self, ended: Ended<'_>) -> Option<Failing> {
        let Ended {
            tool: name,
            outcome,
            ..
        } = ended;
        if !tool::changes(name) {
            return None;
        }
        let fails = match outcome {
            Outcome::Denied => return None,
            Outcome::Unknown => true,
            Outcome::Failed => !ended.has_run,
            Outcome::Done => false,
        };
        if fails {
            let failures = self.failures.entry(name.to_owned()).or_default();
            *failures += 1;
            let what = format!("{FAILING} failures of {name}, one behind the other");
            return (*failures == FAILING).then_some(Failing(what));
        }
        self.failures.remove(name);
        if name != tools::tests::NAME {
            return None;
        }
        let key = hash(&[ended.arguments, &ended.state.to_string()]);
        let passes = outcome == Outcome::Done;
        let before = self.passed.insert(key, passes);
        if before.is_none_or(|before| before == passes) {
            return None;
        }
        self.n_flips += 1;
        let what = "tests that pass and fail by turns, with the same files";
        (self.n_flips == FLAKY).then(|| Failing(what.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One call a line: tool, how it ended, arguments, state; `!` where it is too much then.
    fn check(story: &str) {
        let mut health = Health::default();
        for line in story.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (line, expected) = match line.strip_suffix(" !") {
                Some(line) => (line, true),
                None => (line, false),
            };
            let mut words = line.split(' ');
            let tool = words.next().unwrap();
            let (outcome, has_run) = match words.next().unwrap() {
                "done" => (Outcome::Done, true),
                "broken" => (Outcome::Failed, false),
                "fails" => (Outcome::Failed, true),
                "denied" => (Outcome::Denied, false),
                "lost" => (Outcome::Unknown, true),
                other => panic!("{other}"),
            };
            let ended = Ended {
                tool,
                outcome,
                has_run,
                arguments: words.next().unwrap_or(""),
                state: words.next().map_or(0, |n| n.parse().unwrap()),
            };
            let found = health.observe(ended);
            assert_eq!(found.is_some(), expected, "{line} of {story}: {found:?}");
        }
    }

    #[test]
    fn a_tool_that_cannot_do_its_work_five_times_in_a_row_is_failing() {
        check("edit broken\nedit broken\nedit broken\nedit broken\nedit broken !\nedit broken");
        check(
            "edit broken\nrun broken\nedit broken\nedit lost\nread_file broken\nedit broken\nedit broken !",
        );
        check("edit broken\nedit broken\nedit broken\nedit broken\nedit done\nedit broken");
        check("edit broken\nedit broken\nedit broken\nedit broken\nedit denied\nedit broken !");
        check(
            "mcp__a__b broken\nmcp__a__b broken\nmcp__a__b broken\nmcp__a__b broken\nmcp__a__b broken !",
        );
        check(&"run fails\n".repeat(20));
        check(&"tests fails\n".repeat(20));
        check(&"grep broken\n".repeat(20));
    }

    #[test]
    fn tests_that_end_otherwise_without_a_change_are_flaky_the_second_time() {
        check("tests done a 1\ntests fails a 1\ntests done a 1 !\ntests fails a 1");
        check("tests fails a 1\ntests done a 2\ntests fails a 3\ntests done a 4");
        check("tests fails a 1\ntests done b 1\ntests fails a 1\ntests done b 1");
        check("tests done a 1\ntests fails a 1\ntests done b 2\ntests fails b 2 !");
    }
}
