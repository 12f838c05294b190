//! What a task may do: layered rules, and permissions that were given on top.
//!
//! Holds: of all rules that hold for something the strictest wins, whichever layer it is in. A
//! repository's file can deny, ask and lower ceilings, never allow: rules there that allow, and
//! ceilings above the defaults, are left out. Rules for some kinds of tasks only tighten those for
//! all. What no rule speaks of is asked. A permission turns
//! *ask* into *allow*, never *deny*. A file that cannot be read, or whose rules fail their own
//! examples, stops the task before it starts.
//! Not here: asking (`agent`), sandboxes: what is allowed still runs in a copy, and reaches no host
//! that was not judged on its own.

pub mod command;
mod rule;
mod when;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::command::{Line, Simple, Word};
use self::rule::{About, Commands, Holds, Hosts, Paths, PolicyFile, Rule, Tools, is_named};
pub use self::rule::{Access, Ruling};
use self::when::Scope;
use super::governor::Limits;
use crate::edit::path::{Denied, RepoPath};
use crate::error::{Kind, UserError};
use crate::secret;
use crate::store::events::{Grant, Permission};

const BUILTIN: &str = include_str!("policy/builtin.toml");
/// Where a repository keeps its rules.
pub const REPOSITORY_FILE: &str = ".pairwright/policy.toml";
/// Where an organisation keeps its rules on a machine.
const ORGANISATION_FILE: &str = "/etc/pairwright/policy.toml";
/// Largest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Who a layer of rules is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from", content = "file")]
pub enum Origin {
    Builtin,
    Organisation(PathBuf),
    User(PathBuf),
    Repository(PathBuf),
    /// Named when the task was started.
    Task(PathBuf),
}

/// The rules in force. Made once for each task.
#[derive(Debug, Clone)]
pub struct Policy {
    layers: Vec<Layer>,
    hash: String,
    /// What holds for the one task it was [narrowed](Self::narrowed) for.
    scope: Scope,
}

#[derive(Debug, Clone)]
struct Layer {
    origin: Origin,
    file: PolicyFile,
}

/// A judgement, and the rule it is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub ruling: Ruling,
    /// The rule and where it stands.
    pub rule: String,
    /// What it is about: the command or path.
    pub what: String,
    pub why: String,
    pub instead: Option<String>,
    /// Words that a permission for this would remember; `None` when it could only be given once.
    pub remembered: Option<Vec<String>>,
}

/// Where rules are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The user's settings directory.
    pub config: Option<&'a Path>,
    pub root: &'a Path,
    /// A file named when the task is started.
    pub task: Option<&'a Path>,
}

impl Policy {
    /// Reads all layers.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or a rule is wrong: its name and what is wrong.
    pub fn load(sources: Sources<'_>) -> Result<Self, UserError> {
        let mut texts = vec![(Origin::Builtin, BUILTIN.to_owned())];
        let organisation = PathBuf::from(ORGANISATION_FILE);
        let user = sources.config.map(|c| c.join("policy.toml"));
        let repository = sources.root.join(REPOSITORY_FILE);
        let files = [
            Some(Origin::Organisation(organisation)),
            user.map(Origin::User),
            Some(Origin::Repository(repository)),
        ];
        for origin in files.into_iter().flatten() {
            if let Some(text) = read(&origin, Missing::Fine)? {
                texts.push((origin, text));
            }
        }
        if let Some(task) = sources.task {
            let origin = Origin::Task(task.to_owned());
            if let Some(text) = read(&origin, Missing::Wrong)? {
                texts.push((origin, text));
            }
        }
        Self::of(texts)
    }

    /// Makes a policy of the texts of its layers.
    fn of(texts: Vec<(Origin, String)>) -> Result<Self, UserError> {
        let mut hasher = blake3::Hasher::new();
        let mut layers = Vec::new();
        for (origin, text) in texts {
            hasher.update(blake3::hash(text.as_bytes()).as_bytes());
            let mut file = PolicyFile::parse(&text).map_err(|why| {
                UserError::new(
                    Kind::Settings,
                    format!("{} cannot be used: {why}.", origin.shown()),
                )
            })?;
            if matches!(origin, Origin::Repository(_)) {
                file.only_tighten();
            }
            layers.push(Layer { origin, file });
        }
        Ok(Self {
            layers,
            hash: hasher.finalize().to_hex()[..16].to_owned(),
            scope: Scope::default(),
        })
    }

    /// Names the rules in force: the same name is the same rules.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.layers.iter().map(|l| &l.origin)
    }

    /// The tightest of all ceilings that layers set.
    pub fn limits(&self) -> Limits {
        let limits = self.layers.iter().map(|l| &l.file.limits);
        limits.fold(Limits::default(), Limits::tighter)
    }

    /// Whether a task may be started in the mode of this name.
    pub fn allows_mode(&self, mode: &str) -> bool {
        let mut named = self.layers.iter().filter_map(|l| l.file.modes.as_ref());
        named.all(|modes| modes.iter().any(|m| m == mode))
    }

    /// The branch that the folder is on, where rules say that the user decides about every change
    /// there. Reads the disk.
    pub fn protected_branch(&self, root: &Path) -> Option<String> {
        let branch = indexer::head(root)?.branch?;
        let is_protected = self.layers.iter().any(|l| l.file.protects(&branch));
        is_protected.then_some(branch)
    }

    /// Judges a shell line: the strictest judgement of all it would run and write.
    pub fn judge_line(&self, text: &str, grants: &[Grant]) -> Verdict {
        let line = Line::read(text);
        let mut strictest = Verdict {
            ruling: Ruling::Allow,
            rule: "every part is allowed".into(),
            what: text.to_owned(),
            why: String::new(),
            instead: None,
            remembered: None,
        };
        let mut take = |verdict: Verdict| {
            if verdict.ruling > strictest.ruling {
                strictest = verdict;
            }
        };
        for simple in &line.commands {
            take(self.judge_simple(simple, grants));
        }
        for to in &line.writes {
            take(self.judge_redirect(to, grants));
        }
        if let Some(doubt) = line.doubts.first() {
            take(Verdict {
                ruling: Ruling::Ask,
                rule: "what cannot be told is asked".into(),
                what: text.to_owned(),
                why: doubt.clone(),
                instead: Some("write the command out plainly".into()),
                remembered: None,
            });
        }
        if line.commands.is_empty() && line.doubts.is_empty() {
            take(Verdict {
                ruling: Ruling::Deny,
                rule: "a line runs something".into(),
                what: text.to_owned(),
                why: "there is no command in it".into(),
                instead: None,
                remembered: None,
            });
        }
        // A permission that is kept must cover the whole line.
        if line.commands.len() != 1 || !line.doubts.is_empty() || !line.writes.is_empty() {
            strictest.remembered = None;
        }
        strictest
    }

    fn judge_simple(&self, simple: &Simple, grants: &[Grant]) -> Verdict {
        let says = |rule: &Rule<Commands>| match (
            rule.about.hold_for(simple, rule.decision),
            rule.decision,
        ) {
            (Holds::No, _) | (Holds::Perhaps, Ruling::Allow) => None,
            (Holds::Yes, ruling) => Some(ruling),
            (Holds::Perhaps, Ruling::Ask | Ruling::Deny) => Some(Ruling::Ask),
        };
        let unless = Verdict {
            // What a wrapper runs is judged on its own.
            ruling: if simple.is_wrapper {
                Ruling::Allow
            } else {
                Ruling::Ask
            },
            rule: "what no rule speaks of is asked".into(),
            what: shown(simple),
            why: format!(
                "no rule allows `{}`",
                simple.program().unwrap_or("a computed program")
            ),
            instead: None,
            remembered: simple.known_words(),
        };
        self.strictest(|file| &file.command, says, unless)
            .with(grants, |allowed| match allowed {
                Permission::Command(words) => begins_with(simple, words),
                Permission::Path(_) | Permission::Tool(_) | Permission::Network(_) => false,
            })
    }

    fn judge_redirect(&self, to: &Word, grants: &[Grant]) -> Verdict {
        let ask = |what: &str, why: &str| Verdict {
            ruling: Ruling::Ask,
            rule: "output goes into files of the task".into(),
            what: what.to_owned(),
            why: why.to_owned(),
            instead: Some("use the edit tool to write files".into()),
            remembered: None,
        };
        match to.known() {
            None => ask("a computed file", "where output goes is computed"),
            Some("/dev/null" | "/dev/stdout" | "/dev/stderr" | "1" | "2") => Verdict {
                ruling: Ruling::Allow,
                ..ask("output", "")
            },
            Some(path) if path.starts_with("/tmp/") && !path.contains("..") => Verdict {
                ruling: Ruling::Allow,
                ..ask(path, "")
            },
            Some(path) => match RepoPath::parse(path) {
                Ok(path) => self.judge_path(Access::Write, path.as_str(), grants),
                Err(Denied::VersionControl) => Verdict {
                    ruling: Ruling::Deny,
                    ..ask(path, "version control is git's own")
                },
                Err(why) => ask(path, &why.to_string()),
            },
        }
    }

    /// Judges letting a command reach a host: `host`, `*.host`, `host:port`.
    pub fn judge_network(&self, host: &str, grants: &[Grant]) -> Verdict {
        let unless = Verdict {
            ruling: Ruling::Ask,
            rule: "hosts that no rule speaks of are asked for".into(),
            what: host.to_owned(),
            why: "what the sandbox has could leave through it".into(),
            instead: None,
            remembered: Some(vec![host.to_owned()]),
        };
        let says = |rule: &Rule<Hosts>| rule.holds(host).then_some(rule.decision);
        self.strictest(|file| &file.network, says, unless)
            .with(grants, |allowed| is_host(allowed, host))
    }

    /// Judges calling a tool of an MCP server, by its full name. What a server says of its tools
    /// counts for nothing: what no rule speaks of is asked.
    pub fn judge_tool(&self, tool: &str, grants: &[Grant]) -> Verdict {
        let unless = Verdict {
            ruling: Ruling::Ask,
            rule: "what no rule speaks of is asked".into(),
            what: tool.to_owned(),
            why: "it is a tool of another program, which works outside the sandbox".into(),
            instead: None,
            remembered: Some(vec![tool.to_owned()]),
        };
        let says = |rule: &Rule<Tools>| rule.holds(tool).then_some(rule.decision);
        self.strictest(|file| &file.tool, says, unless)
            .with(grants, |allowed| match allowed {
                Permission::Tool(granted) => granted == tool,
                Permission::Command(_) | Permission::Path(_) | Permission::Network(_) => false,
            })
    }

    /// Judges one call more of a tool, after `calls` of each. `None` within its quota, and where it
    /// has none.
    pub fn judge_quota(&self, tool: &str, calls: &HashMap<String, u32>) -> Option<Verdict> {
        let of = |name: &str| -> u32 {
            let named = calls.iter().filter(|(other, _)| is_named(name, other));
            named.map(|(_, n)| n).sum()
        };
        self.layers.iter().find_map(|layer| {
            let mut quotas = layer.file.quotas.iter();
            let (name, most) =
                quotas.find(|(name, most)| is_named(name, tool) && of(name) >= **most)?;
            Some(Verdict {
                ruling: Ruling::Deny,
                rule: format!("`quotas.{name}` in {}", layer.origin.shown()),
                what: tool.to_owned(),
                why: match most {
                    0 => "a task may not call it".to_owned(),
                    1 => "a task may call it once".to_owned(),
                    _ => format!("a task may call it {most} times"),
                },
                instead: Some("go on without it, or finish with what you have".into()),
                remembered: None,
            })
        })
    }

    /// Judges reading or changing a file of the folder. `path` is below it, with `/`.
    pub fn judge_path(&self, access: Access, path: &str, grants: &[Grant]) -> Verdict {
        let mut unless = Verdict {
            ruling: Ruling::Allow,
            rule: "files of the folder may be read, and changes be proposed".into(),
            what: path.to_owned(),
            why: String::new(),
            instead: None,
            remembered: Some(vec![path.to_owned()]),
        };
        if secret::is_path(path) {
            unless.ruling = Ruling::Deny;
            unless.rule = "files that hold secrets are left alone".into();
            unless.why = "its name says that it holds secrets".into();
            unless.instead = Some("ask the user for what you need to know of it".into());
            return unless;
        }
        let says = |rule: &Rule<Paths>| {
            (rule.about.access == access && rule.holds(path)).then_some(rule.decision)
        };
        self.strictest(|file| &file.path, says, unless)
            .with(grants, |allowed| match allowed {
                Permission::Path(granted) => is_granted_by(granted, path),
                Permission::Command(_) | Permission::Tool(_) | Permission::Network(_) => false,
            })
    }

    /// The judgement by the strictest of the rules that say something, or the one that holds
    /// unless some do.
    fn strictest<A: About>(
        &self,
        rules: impl Fn(&PolicyFile) -> &[Rule<A>],
        says: impl Fn(&Rule<A>) -> Option<Ruling>,
        unless: Verdict,
    ) -> Verdict {
        let mut strictest: Option<(Ruling, &Origin, &Rule<A>)> = None;
        for layer in &self.layers {
            for rule in rules(&layer.file) {
                let Some(ruling) = says(rule) else { continue };
                if strictest.is_none_or(|(before, ..)| ruling > before) {
                    strictest = Some((ruling, &layer.origin, rule));
                }
            }
        }
        match strictest {
            Some((ruling, origin, rule)) => Verdict {
                ruling,
                rule: format!("`{}` in {}", rule.about.name(), origin.shown()),
                why: rule.why.clone().unwrap_or_default(),
                instead: rule.instead.clone(),
                ..unless
            },
            None => unless,
        }
    }
}

impl Verdict {
    /// The judgement once permissions count: they turn *ask* into *allow*.
    fn with(mut self, grants: &[Grant], covers: impl Fn(&Permission) -> bool) -> Self {
        if self.ruling == Ruling::Ask && grants.iter().any(|grant| covers(&grant.allows)) {
            self.ruling = Ruling::Allow;
        }
        self
    }
}

impl Origin {
    fn shown(&self) -> String {
        match self {
            Self::Builtin => "the built-in rules".into(),
            Self::Organisation(path)
            | Self::User(path)
            | Self::Repository(path)
            | Self::Task(path) => path.display().to_string(),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Builtin => None,
            Self::Organisation(path)
            | Self::User(path)
            | Self::Repository(path)
            | Self::Task(path) => Some(path),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fine,
    Wrong,
}

fn read(origin: &Origin, missing: Missing) -> Result<Option<String>, UserError> {
    let Some(path) = origin.path() else {
        return Ok(None);
    };
    let broken = |why: &str| {
        let message = format!("The rules in {} cannot be read: {why}.", path.display());
        UserError::new(Kind::Settings, message)
            .with_hint("No task starts without rules that are meant to be there.")
    };
    // A link in a repository could name any file of the machine.
    let found = match origin {
        Origin::Repository(_) => fs::symlink_metadata(path),
        _ => fs::metadata(path),
    };
    match found {
        Ok(found) if !found.is_file() => Err(broken("it is no file")),
        Ok(found) if found.len() > MAX_FILE => Err(broken("it is too large")),
        Ok(_) => fs::read_to_string(path)
            .map(Some)
            .map_err(|why| broken(&why.to_string())),
        Err(why) if why.kind() == io::ErrorKind::NotFound && missing == Missing::Fine => Ok(None),
        Err(why) => Err(broken(&why.to_string())),
    }
}

/// Whether one of these permissions is for exactly this host.
pub fn grants_host(grants: &[Grant], host: &str) -> bool {
    grants.iter().any(|grant| is_host(&grant.allows, host))
}

fn is_host(allowed: &Permission, host: &str) -> bool {
    match allowed {
        Permission::Network(granted) => granted == host,
        Permission::Command(_) | Permission::Path(_) | Permission::Tool(_) => false,
    }
}

/// Whether a permission for a glob holds for a path; what is no glob is itself alone.
fn is_granted_by(granted: &str, path: &str) -> bool {
    let glob = globset::GlobBuilder::new(granted)
        .literal_separator(true)
        .build();
    granted == path || glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
}

/// Whether a command begins with exactly these words.
fn begins_with(simple: &Simple, words: &[String]) -> bool {
    !words.is_empty()
        && simple.words.len() >= words.len()
        && simple
            .words
            .iter()
            .zip(words)
            .all(|(a, b)| a.known() == Some(b))
}

fn shown(simple: &Simple) -> String {
    let words = simple.words.iter().map(|w| w.known().unwrap_or("…"));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
