//! Rules as they are written in policy files, checked by their own examples.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::command::wrapper_git_options;
use super::command::{Line, Simple, Word};
use crate::agent::governor::Limits;

/// A policy file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyFile {
    pub(super) command: Vec<CommandRule>,
    pub(super) path: Vec<PathRule>,
    pub(super) tool: Vec<ToolRule>,
    pub(super) network: Vec<NetworkRule>,
    pub(super) limits: Limits,
    /// Modes a task may be started in; all when not given.
    pub(super) modes: Option<Vec<String>>,
}

/// What a rule says. In rising order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    Allow,
    Ask,
    Deny,
}

/// A rule about commands that begin with some words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandRule {
    /// The program and its first arguments; `*` stands for any one word.
    pub(super) run: Vec<String>,
    pub(super) decision: Ruling,
    pub(super) why: Option<String>,
    /// What to do instead.
    pub(super) instead: Option<String>,
    /// The rule holds only where one of these options or words is given too.
    #[serde(default)]
    pub(super) with: Vec<String>,
    /// The rule does not hold where one of these options or words is given.
    #[serde(default)]
    pub(super) without: Vec<String>,
    /// Lines the rule must hold for, checked when the file is read.
    #[serde(default)]
    pub(super) matches: Vec<String>,
    /// Lines the rule must not hold for.
    #[serde(default)]
    pub(super) passes: Vec<String>,
}

/// A rule about files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathRule {
    /// Paths below the folder; `**` crosses folders. Case does not matter.
    pub(super) glob: String,
    #[serde(default)]
    pub(super) access: Access,
    pub(super) decision: Ruling,
    pub(super) why: Option<String>,
    pub(super) instead: Option<String>,
    #[serde(default)]
    pub(super) matches: Vec<String>,
    #[serde(default)]
    pub(super) passes: Vec<String>,
}

/// A rule about tools of MCP servers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolRule {
    /// The full name, `mcp__<server>__<tool>`; a `*` at its end stands for any rest.
    pub(super) name: String,
    pub(super) decision: Ruling,
    pub(super) why: Option<String>,
    /// What to do instead.
    pub(super) instead: Option<String>,
    /// Names the rule must hold for, checked when the file is read.
    #[serde(default)]
    pub(super) matches: Vec<String>,
    /// Names the rule must not hold for.
    #[serde(default)]
    pub(super) passes: Vec<String>,
}

/// A rule about hosts that commands may reach from their sandbox.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkRule {
    /// `host`, `*.host` for all below it, or `*` for all.
    pub(super) host: String,
    pub(super) decision: Ruling,
    pub(super) why: Option<String>,
    pub(super) instead: Option<String>,
}

impl NetworkRule {
    /// Whether the rule holds for a host as it is asked for, which may be `*.host` or have a port.
    /// Rules that allow hold for the ports 443 and 80 alone, others for all.
    pub(super) fn holds(&self, asked: &str) -> bool {
        let asked = asked.to_ascii_lowercase();
        let rule = self.host.to_ascii_lowercase();
        let (name, has_port) = match asked.rsplit_once(':') {
            Some((name, _)) => (name, true),
            None => (asked.as_str(), false),
        };
        if has_port && self.decision == Ruling::Allow && rule != asked {
            return false;
        }
        let is_below = |name: &str| {
            let below = rule.strip_prefix('*').filter(|rest| rest.starts_with('.'));
            below.is_some_and(|below| name.ends_with(below))
        };
        // To ask for all below a host is to ask for this one too.
        let asks_for_it = |rule: &str| {
            let below = name
                .strip_prefix('*')
                .filter(|_| self.decision != Ruling::Allow);
            below.is_some_and(|below| rule.ends_with(below))
        };
        rule == "*" || rule == asked || rule == name || is_below(name) || asks_for_it(&rule)
    }

    /// # Errors
    /// What is wrong with the rule, in words.
    fn check(&self) -> Result<(), String> {
        let host = &self.host;
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(format!("`{host}` is no host"));
        }
        if self.decision == Ruling::Deny && self.why.is_none() {
            return Err(format!("the rule that denies `{host}` needs `why`"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    #[default]
    Write,
}

/// Whether a rule holds for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// Words that decide it are computed.
    Perhaps,
    No,
}

impl CommandRule {
    /// Whether the rule holds for `simple`. Rules that allow are read to the letter, others
    /// generously: a program counts whatever folder it is in, and git's own options before the
    /// subcommand are passed over.
    pub(super) fn holds(&self, simple: &Simple) -> Holds {
        let is_lenient = self.decision != Ruling::Allow;
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
            match has_any(rest, &self.with) {
                Holds::No => return Holds::No,
                Holds::Perhaps => holds = Holds::Perhaps,
                Holds::Yes => {}
            }
        }
        if !self.without.is_empty() {
            match has_any(rest, &self.without) {
                Holds::Yes => return Holds::No,
                Holds::Perhaps => holds = Holds::Perhaps,
                Holds::No => {}
            }
        }
        holds
    }

    /// Checks the rule by its examples.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        let name = self.run.join(" ");
        if self.run.is_empty() || self.run[0].is_empty() {
            return Err("a rule about commands needs `run`".into());
        }
        if self.decision == Ruling::Deny && self.why.is_none() {
            return Err(format!("the rule that denies `{name}` needs `why`"));
        }
        let holds = |line: &str| {
            let line = Line::read(line);
            line.commands.iter().any(|c| self.holds(c) == Holds::Yes)
        };
        if let Some(line) = self.matches.iter().find(|line| !holds(line)) {
            return Err(format!(
                "the rule for `{name}` does not match its example `{line}`"
            ));
        }
        if let Some(line) = self.passes.iter().find(|line| holds(line)) {
            return Err(format!(
                "the rule for `{name}` matches `{line}`, which it should not"
            ));
        }
        Ok(())
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

/// Whether one of `options` is among the words: as it is, with a value (`--out=x`), or in a
/// cluster of short ones (`-rf`).
fn has_any(words: &[Word], options: &[String]) -> Holds {
    let is = |word: &str, option: &String| {
        let mut letters = option.chars();
        let short = match (letters.next(), letters.next(), letters.next()) {
            (Some('-'), Some(letter), None) if letter != '-' => Some(letter),
            _ => None,
        };
        word == option
            || word
                .strip_prefix(option.as_str())
                .is_some_and(|r| r.starts_with('='))
            || short.is_some_and(|letter| {
                word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
            })
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

impl ToolRule {
    pub(super) fn holds(&self, tool: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => tool.starts_with(start),
            None => tool == self.name,
        }
    }

    /// Checks the rule by its examples.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let start = name.strip_suffix('*').unwrap_or(name);
        if !start.starts_with("mcp__") || start.contains('*') {
            return Err(format!(
                "`{name}` names no tool of an MCP server; write `mcp__<server>__<tool>`, with one `*` at the end or none"
            ));
        }
        if self.decision == Ruling::Deny && self.why.is_none() {
            return Err(format!("the rule that denies `{name}` needs `why`"));
        }
        if let Some(tool) = self.matches.iter().find(|tool| !self.holds(tool)) {
            return Err(format!("`{name}` does not match its example `{tool}`"));
        }
        if let Some(tool) = self.passes.iter().find(|tool| self.holds(tool)) {
            return Err(format!("`{name}` matches `{tool}`, which it should not"));
        }
        Ok(())
    }
}

/// A rule about files, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) rule: PathRule,
    matcher: GlobMatcher,
}

impl Paths {
    /// # Errors
    /// What is wrong with the rule, in words.
    fn new(rule: PathRule) -> Result<Self, String> {
        let glob = globset::GlobBuilder::new(&rule.glob)
            .literal_separator(true)
            .case_insensitive(true)
            .build()
            .map_err(|why| format!("the glob `{}` cannot be read: {why}", rule.glob))?;
        let paths = Self {
            matcher: Glob::compile_matcher(&glob),
            rule,
        };
        if paths.rule.decision == Ruling::Deny && paths.rule.why.is_none() {
            return Err(format!(
                "the rule that denies `{}` needs `why`",
                paths.rule.glob
            ));
        }
        if let Some(path) = paths.rule.matches.iter().find(|p| !paths.holds(p)) {
            return Err(format!(
                "`{}` does not match its example `{path}`",
                paths.rule.glob
            ));
        }
        if let Some(path) = paths.rule.passes.iter().find(|p| paths.holds(p)) {
            return Err(format!(
                "`{}` matches `{path}`, which it should not",
                paths.rule.glob
            ));
        }
        Ok(paths)
    }

    pub(super) fn holds(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

impl PolicyFile {
    /// Reads a file and checks every rule by its examples.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn parse(text: &str) -> Result<(Self, Vec<Paths>), String> {
        let file: Self = toml::from_str(text).map_err(|why| why.to_string())?;
        file.limits.check()?;
        file.command.iter().try_for_each(CommandRule::check)?;
        file.tool.iter().try_for_each(ToolRule::check)?;
        file.network.iter().try_for_each(NetworkRule::check)?;
        let paths = file.path.iter().cloned().map(Paths::new);
        let paths = paths.collect::<Result<_, _>>()?;
        Ok((file, paths))
    }
}
