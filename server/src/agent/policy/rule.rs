//! Rules as they are written in policy files, checked by their own examples.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::command::wrapper_git_options;
use super::command::{Line, Simple, Word};
use super::when::When;
use crate::agent::governor::Limits;
use crate::agent::tools::finish;
use crate::mcp;

/// A policy file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyFile {
    pub(super) command: Vec<Rule<Commands>>,
    pub(super) path: Vec<Rule<Paths>>,
    pub(super) tool: Vec<Rule<Tools>>,
    pub(super) network: Vec<Rule<Hosts>>,
    pub(super) limits: Limits,
    /// How often a task may call tools, by name; a `*` at its end stands for any rest, and then
    /// they share the number.
    pub(super) quotas: BTreeMap<String, u32>,
    /// Modes a task may be started in; all when not given.
    pub(super) modes: Option<Vec<String>>,
    /// Branches where the user decides about every change, as globs.
    protected_branches: Vec<PathGlob>,
    /// What is besides for some kinds of tasks.
    pub(super) when: Vec<When>,
}

/// A rule: what it is about, and what it says of that.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule<A> {
    #[serde(flatten)]
    pub(super) about: A,
    pub(super) decision: Ruling,
    pub(super) why: Option<String>,
    /// What to do instead.
    pub(super) instead: Option<String>,
    /// Examples the rule must hold for, checked when the file is read.
    #[serde(default)]
    matches: Vec<String>,
    /// Examples the rule must not hold for.
    #[serde(default)]
    passes: Vec<String>,
}

/// What a rule can be about.
pub(super) trait About {
    /// What is written to name it.
    fn name(&self) -> String;

    /// Whether a rule that decides so holds for an example.
    fn holds(&self, example: &str, decision: Ruling) -> bool;

    /// # Errors
    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a rule says. In rising order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    Allow,
    Ask,
    Deny,
}

/// Commands that begin with some words.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Commands {
    /// The program and its first arguments; `*` stands for any one word.
    run: Vec<String>,
    /// Only where one of these options or words is given too; `*=*` is any `name=value`.
    #[serde(default)]
    with: Vec<String>,
    /// Not where one of these options or words is given.
    #[serde(default)]
    without: Vec<String>,
}

/// Files.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Paths {
    glob: PathGlob,
    #[serde(default)]
    pub(super) access: Access,
}

/// Paths below the folder; `**` crosses folders. Case does not matter.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct PathGlob(GlobMatcher);

/// Tools of MCP servers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tools {
    /// The full name, `mcp__<server>__<tool>`; a `*` at its end stands for any rest.
    name: String,
}

/// Hosts that commands may reach from their sandbox.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Hosts {
    /// `host`, `*.host` for all below it, or `*` for all.
    host: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    #[default]
    Write,
}

impl PolicyFile {
    /// Reads a file and checks every rule by its examples.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|why| why.to_string())?;
        file.limits.check()?;
        check_quotas(&file.quotas)?;
        file.when.iter().try_for_each(When::check)?;
        file.command.iter().try_for_each(Rule::check)?;
        file.path.iter().try_for_each(Rule::check)?;
        file.tool.iter().try_for_each(Rule::check)?;
        file.network.iter().try_for_each(Rule::check)?;
        Ok(file)
    }

    pub(super) fn protects(&self, branch: &str) -> bool {
        let mut globs = self.protected_branches.iter();
        globs.any(|glob| glob.0.is_match(branch))
    }

    /// Leaves out what allows something.
    pub(super) fn only_tighten(&mut self) {
        self.command.retain(Rule::tightens);
        self.path.retain(Rule::tightens);
        self.tool.retain(Rule::tightens);
        self.network.retain(Rule::tightens);
        self.limits = self.limits.below_defaults();
    }
}

/// # Errors
/// When a task could not end.
pub(super) fn check_quotas(quotas: &BTreeMap<String, u32>) -> Result<(), String> {
    match quotas.keys().any(|name| is_named(name, finish::NAME)) {
        true => Err("a task needs the tool `finish`; it can have no quota".to_owned()),
        false => Ok(()),
    }
}

impl<A: About> Rule<A> {
    pub(super) fn holds(&self, what: &str) -> bool {
        self.about.holds(what, self.decision)
    }

    pub(super) fn tightens(&self) -> bool {
        self.decision != Ruling::Allow
    }

    /// # Errors
    /// What is wrong with the rule, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        self.about.check()?;
        let name = self.about.name();
        if self.decision == Ruling::Deny && self.why.is_none() {
            return Err(format!("the rule that denies `{name}` needs `why`"));
        }
        if let Some(example) = self.matches.iter().find(|example| !self.holds(example)) {
            return Err(format!(
                "the rule for `{name}` does not match its example `{example}`"
            ));
        }
        if let Some(example) = self.passes.iter().find(|example| self.holds(example)) {
            return Err(format!(
                "the rule for `{name}` matches `{example}`, which it should not"
            ));
        }
        Ok(())
    }
}

/// Whether a rule holds for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// Words that decide it are computed.
    Perhaps,
    No,
}

impl Commands {
    /// Whether a rule about these holds for `simple`. Rules that allow are read to the letter, others
    /// generously: a program counts whatever folder it is in, and git's own options before the
    /// subcommand are passed over.
    pub(super) fn hold_for(&self, simple: &Simple, decision: Ruling) -> Holds {
        let is_lenient = decision != Ruling::Allow;
        let mut words = simple.words.clone();
        if (is_lenient || is_usual_place(&words[0]))
            && let Some(name) = simple.program()
        {
            words[0] = Word::Known(name.to_owned());
        }
        if simple.program() == Some("git") {
            let n_options = wrapper_git_options(&words[1..]);
            words.drain(1..=n_options);
        }
        // Whatever makes a rule stricter is read generously.
        let (with, without) = match is_lenient {
            true => (Reading::Generous, Reading::Literal),
            false => (Reading::Literal, Reading::Generous),
        };
        let mut holds = Holds::Yes;
        for (idx, wanted) in self.run.iter().enumerate() {
            match words.get(idx) {
                None => return Holds::No,
                Some(Word::Known(word)) if word == wanted || wanted == "*" => {}
                Some(Word::Known(_)) => return Holds::No,
                Some(Word::Unknown) if wanted == "*" => {}
                Some(Word::Unknown) => holds = Holds::Perhaps,
            }
        }
        let rest = words.get(self.run.len()..).unwrap_or_default();
        if !self.with.is_empty() {
            match has_any(rest, &self.with, with) {
                Holds::No => return Holds::No,
                Holds::Perhaps => holds = Holds::Perhaps,
                Holds::Yes => {}
            }
        }
        if !self.without.is_empty() {
            match has_any(rest, &self.without, without) {
                Holds::Yes => return Holds::No,
                Holds::Perhaps => holds = Holds::Perhaps,
                Holds::No => {}
            }
        }
        holds
    }
}

impl About for Commands {
    fn name(&self) -> String {
        self.run.join(" ")
    }

    fn holds(&self, line: &str, decision: Ruling) -> bool {
        let commands = Line::read(line).commands;
        commands
            .iter()
            .any(|simple| self.hold_for(simple, decision) == Holds::Yes)
    }

    fn check(&self) -> Result<(), String> {
        match self.run.first() {
            Some(program) if !program.is_empty() => Ok(()),
            _ => Err("a rule about commands needs `run`".into()),
        }
    }
}

/// Whether a program stands where the system has its own.
fn is_usual_place(word: &Word) -> bool {
    let folder = word
        .known()
        .and_then(|w| w.rsplit_once('/'))
        .map(|(f, _)| f);
    matches!(folder, Some("/bin" | "/usr/bin" | "/usr/local/bin"))
}

/// How an option that is written in another way is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Literal,
    /// As programs may: shortened (`--outp=x`), with one dash more or less (`--exec` for Go).
    Generous,
}

/// Whether one of `options` is among the words: as it is, with a value (`--out=x`), or in a
/// cluster of short ones (`-rf`). `*=*` is any word that gives something a value.
fn has_any(words: &[Word], options: &[String], reading: Reading) -> Holds {
    let is = |word: &str, option: &String| {
        let name = word.split('=').next().unwrap_or(word);
        word == option
            || name == option
            || option == "*=*" && word.contains('=')
            || is_in_cluster(word, option)
            || reading == Reading::Generous && may_mean(name, option)
    };
    let mut holds = Holds::No;
    for word in words {
        match word.known() {
            Some(word) if options.iter().any(|o| is(word, o)) => return Holds::Yes,
            Some(_) => {}
            None => holds = Holds::Perhaps,
        }
    }
    holds
}

/// Whether a word of short options (`-rf`) has this one (`-r`) among them.
fn is_in_cluster(word: &str, option: &str) -> bool {
    let mut letters = option.chars();
    let short = match (letters.next(), letters.next(), letters.next()) {
        (Some('-'), Some(letter), None) if letter != '-' => Some(letter),
        _ => None,
    };
    short.is_some_and(|letter| {
        word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
    })
}

/// Whether a program could take `name` for a long option.
fn may_mean(name: &str, option: &str) -> bool {
    let whole = option.trim_start_matches('-');
    let said = name.trim_start_matches('-');
    let are_options = name.starts_with('-') && option.starts_with('-');
    let is_start = name.starts_with("--") && !said.is_empty() && whole.starts_with(said);
    are_options && whole.len() > 1 && (whole == said || is_start)
}

impl About for Paths {
    fn name(&self) -> String {
        self.glob.0.glob().glob().to_owned()
    }

    fn holds(&self, path: &str, _: Ruling) -> bool {
        self.glob.0.is_match(path)
    }
}

impl TryFrom<String> for PathGlob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let glob = globset::GlobBuilder::new(&text)
            .literal_separator(true)
            .case_insensitive(true)
            .build();
        match glob {
            Ok(glob) => Ok(Self(Glob::compile_matcher(&glob))),
            Err(why) => Err(format!("the glob `{text}` cannot be read: {why}")),
        }
    }
}

/// Whether a name in a rule, perhaps with a `*` at its end, is this tool's.
pub(super) fn is_named(name: &str, tool: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => tool.starts_with(start),
        None => tool == name,
    }
}

impl About for Tools {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn holds(&self, tool: &str, _: Ruling) -> bool {
        is_named(&self.name, tool)
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let start = name.strip_suffix('*').unwrap_or(name);
        match start.starts_with(mcp::PREFIX) && !start.contains('*') {
            true => Ok(()),
            false => Err(format!(
                "`{name}` names no tool of an MCP server; write `mcp__<server>__<tool>`, with one `*` at the end or none"
            )),
        }
    }
}

impl About for Hosts {
    fn name(&self) -> String {
        self.host.clone()
    }

    /// A host is asked for as it is, as `*.host` or with a port. Rules that allow hold for the
    /// ports 443 and 80 alone, others for all.
    fn holds(&self, asked: &str, decision: Ruling) -> bool {
        let asked = asked.to_ascii_lowercase();
        let rule = self.host.to_ascii_lowercase();
        let (name, has_port) = match asked.rsplit_once(':') {
            Some((name, _)) => (name, true),
            None => (asked.as_str(), false),
        };
        if has_port && decision == Ruling::Allow && rule != asked {
            return false;
        }
        let is_below = |name: &str| {
            let below = rule.strip_prefix('*').filter(|rest| rest.starts_with('.'));
            below.is_some_and(|below| name.ends_with(below))
        };
        // To ask for all below a host is to ask for this one too.
        let asks_for_it = |rule: &str| {
            let below = name.strip_prefix('*').filter(|_| decision != Ruling::Allow);
            below.is_some_and(|below| rule.ends_with(below))
        };
        rule == "*" || rule == asked || rule == name || is_below(name) || asks_for_it(&rule)
    }

    fn check(&self) -> Result<(), String> {
        let host = &self.host;
        match host.is_empty() || host.contains(['/', ' ']) {
            true => Err(format!("`{host}` is no host")),
            false => Ok(()),
        }
    }
}
