//! Layers of settings, laid over each other: defaults, the user's file, workspace files, the
//! editor, the environment.
//!
//! Holds: later layers win, key by key. An unknown key or a value of the wrong type is a
//! [`Problem`] with its layer and the nearest known key; the rest of the layer still counts. Values
//! that can hold secrets are in no message. A layer is read up to [`MOST_VALUES`], whoever wrote it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Settings;
use super::reference::{KnownKeys, is_private, known_keys};
use super::trust::Trust;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    UserFile(PathBuf),
    WorkspaceFile(PathBuf),
    Editor,
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::UserFile(path) | Self::WorkspaceFile(path) => write!(f, "{}", path.display()),
            Self::Editor => f.write_str("editor"),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// One source of settings: a tree of keys as in the settings file.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub origin: Origin,
    pub values: Map<String, Value>,
}

/// Something in a layer that was left out, for the user to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// The settings in force, and how they came about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    pub settings: Settings,
    /// Dotted key → the layer that set it; keys at their default are absent.
    pub origins: BTreeMap<String, Origin>,
    pub problems: Vec<Problem>,
    /// Which folders are trusted.
    pub trust: Trust,
    /// Folders whose settings file is not read until the user was asked whether they are trusted.
    pub unread: Vec<PathBuf>,
}

/// Keys a file inside a workspace may set: none of them names a program, a host or a file.
const SAFE_IN_WORKSPACE: &[&str] = &[
    "complete.enabled",
    "complete.languages",
    "complete.deadlineMs",
    "complete.debounceMs",
    "complete.maxLines",
    "local.enabled",
];

/// Values read of one layer; each costs a pass over all settings before it.
const MOST_VALUES: usize = 500;
/// Problems told of one layer.
const MOST_PROBLEMS: usize = 20;
/// Bytes shown of a key or a value.
const MOST_SHOWN: usize = 100;

/// Lays `layers`, weakest first, over the defaults.
pub fn resolve(layers: &[Layer]) -> Resolved {
    let known = known_keys();
    let mut resolved = Resolved::default();
    let mut merged = Value::Object(Map::new());
    let mut is_unguarded = false;
    for layer in layers {
        let is_ours = !matches!(layer.origin, Origin::WorkspaceFile(_));
        let mut leaves = Vec::new();
        flatten(&layer.values, known, &mut Vec::new(), &mut leaves);
        let mut problems = Vec::new();
        if leaves.len() > MOST_VALUES {
            leaves.truncate(MOST_VALUES);
            is_unguarded |= is_ours;
            problems.push(format!("only the first {MOST_VALUES} settings are read"));
        }
        for (path, value) in leaves {
            match accept(&path, value, layer, known, &merged) {
                Ok((next, settings)) => {
                    merged = next;
                    resolved.settings = settings;
                    resolved
                        .origins
                        .insert(path.join("."), layer.origin.clone());
                }
                Err(message) => {
                    // What guards must not go missing by a slip of the pen.
                    is_unguarded |= is_ours && is_guard(&path, known);
                    problems.push(message);
                }
            }
        }
        if problems.len() > MOST_PROBLEMS {
            let n_more = problems.len() - MOST_PROBLEMS;
            problems.truncate(MOST_PROBLEMS);
            problems.push(format!("and {n_more} more problems"));
        }
        let problem = |message| Problem {
            origin: layer.origin.clone(),
            message,
        };
        resolved.problems.extend(problems.into_iter().map(problem));
    }
    resolved.settings.outbound.is_unread = is_unguarded;
    leave_out_what_has_no_url(&mut resolved);
    leave_out_unusable_servers(&mut resolved);
    resolved
}

/// Longest name of an MCP server: names of tools have 64 characters in all.
pub const SERVER_NAME: usize = 24;

fn leave_out_unusable_servers(resolved: &mut Resolved) {
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        // In the name of a tool, the first `__` after the server's is where it ends.
        let is_apart = !name.contains("__") && !name.starts_with('_') && !name.ends_with('_');
        (1..=SERVER_NAME).contains(&name.len()) && name.chars().all(is_part) && is_apart
    };
    let mut unusable = Vec::new();
    resolved.settings.mcp.servers.retain(|name, server| {
        let why = match (&server.command, &server.url) {
            _ if !is_name(name) => {
                "is no name for a server: up to 24 letters, digits, `-` and single `_` between them are"
            }
            (None, None) => "has neither a `command` nor a `url`",
            (Some(_), Some(_)) => "has a `command` and a `url`; only one of them can be meant",
            (Some(_), None) | (None, Some(_)) => return true,
        };
        unusable.push((name.clone(), why));
        false
    });
    for (name, why) in unusable {
        let inside = format!("mcp.servers.{name}.");
        let mut origins = resolved.origins.iter();
        let origin = origins.find(|(key, _)| key.starts_with(&inside));
        resolved.problems.push(Problem {
            origin: origin.map_or(Origin::Default, |(_, origin)| origin.clone()),
            message: format!("`mcp.servers.{}` {why}", short(&name)),
        });
    }
}

fn leave_out_what_has_no_url(resolved: &mut Resolved) {
    let models = &mut resolved.settings.models;
    let mut nowhere = Vec::new();
    if models.complete.take_if(|m| m.url.is_empty()).is_some() {
        nowhere.push("models.complete");
    }
    if models.embed.take_if(|m| m.url.is_empty()).is_some() {
        nowhere.push("models.embed");
    }
    if models.chat.take_if(|m| m.url.is_empty()).is_some() {
        nowhere.push("models.chat");
    }
    if models.agent.take_if(|m| m.url.is_empty()).is_some() {
        nowhere.push("models.agent");
    }
    if models.edit.take_if(|m| m.url.is_empty()).is_some() {
        nowhere.push("models.edit");
    }
    let remote = &mut resolved.settings.sandbox.remote;
    if remote.take_if(|r| r.url.is_empty()).is_some() {
        nowhere.push("sandbox.remote");
    }
    for (section, fallbacks) in [
        ("models.chatFallbacks", &mut models.chat_fallbacks),
        ("models.agentFallbacks", &mut models.agent_fallbacks),
    ] {
        let n_named = fallbacks.len();
        fallbacks.retain(|model| !model.url.is_empty());
        if fallbacks.len() < n_named {
            nowhere.push(section);
        }
    }
    for section in nowhere {
        let inside = |key: &String| {
            key.strip_prefix(section)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let origin = resolved.origins.iter().find(|(key, _)| inside(key));
        resolved.problems.push(Problem {
            origin: origin.map_or(Origin::Default, |(_, origin)| origin.clone()),
            message: format!("`{section}` has no `url`; it is not used until it has one"),
        });
    }
}

/// Whether a key is one of those that say what may be sent, or is meant to be.
fn is_guard(path: &[String], known: &KnownKeys) -> bool {
    let key = path.join(".");
    let meant = known.nearest(&key);
    let names = [Some(key.as_str()), meant.as_deref()];
    let mut sections = names.into_iter().flatten().map(|key| key.split('.').next());
    sections.any(|section| section == Some("outbound"))
}

fn accept(
    path: &[String],
    value: &Value,
    layer: &Layer,
    known: &KnownKeys,
    merged: &Value,
) -> Result<(Value, Settings), String> {
    let key = path.join(".");
    if !known.contains(&key) {
        let hint = known
            .nearest(&key)
            .map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
        return Err(format!("unknown setting `{}`{hint}", short(&key)));
    }
    let safe = |s: &&str| key == **s || key.starts_with(&format!("{s}."));
    if matches!(layer.origin, Origin::WorkspaceFile(_)) && !SAFE_IN_WORKSPACE.iter().any(safe) {
        return Err(format!(
            "`{}` is ignored in a workspace file, where it could be set by anyone who can \
             change the repository; set it in the user settings",
            short(&key)
        ));
    }
    let mut next = merged.clone();
    set(&mut next, path, value.clone());
    known.check_range(&key, value)?;
    match serde_json::from_value::<Settings>(next.clone()) {
        Ok(settings) => Ok((next, settings)),
        Err(why) => {
            let why = match is_private(&key) {
                true => format!("{} does not fit", kind_of(value)),
                false => why.to_string(),
            };
            let (key, why) = (short(&key), short(&why));
            Err(format!("`{key}` has a value of the wrong kind: {why}"))
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// The beginning of a text that somebody else wrote.
fn short(text: &str) -> Cow<'_, str> {
    match text.floor_char_boundary(MOST_SHOWN) {
        end if end < text.len() => Cow::Owned(format!("{}…", &text[..end])),
        _ => Cow::Borrowed(text),
    }
}

/// Lists the leaves of a layer: values, and tables that are read as one value.
fn flatten<'a>(
    table: &'a Map<String, Value>,
    known: &KnownKeys,
    path: &mut Vec<String>,
    out: &mut Vec<(Vec<String>, &'a Value)>,
) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Object(inner) if !known.is_whole(&path.join(".")) => {
                flatten(inner, known, path, out);
            }
            _ => out.push((path.clone(), value)),
        }
        path.pop();
    }
}

fn set(tree: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    if let Value::Object(table) = tree {
        set(table.entry(key.clone()).or_insert(Value::Null), rest, value);
    }
}
