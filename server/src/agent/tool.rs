//! The tools a task has: what the model is told of them, and what its calls mean.
//!
//! Holds: arguments are read into the tool's own type or refused with what is wrong; the schema the
//! model sees is made of that type. Every answer is bounded.
//! Not here: whether a call may run (`policy`), what it is charged (`governor`).

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Mode;
use super::tools::{
    ask_user, diagnostics, edit, finish, git_diff, git_log, grep, list, plan, read_file, run,
    search, symbols, tests,
};
use crate::mcp;
use crate::model::{ToolCall, ToolSpec};
use crate::store::events::Effect;

/// A call whose arguments are what its tool takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    ReadFile(read_file::Arguments),
    List(list::Arguments),
    Search(search::Arguments),
    Grep(grep::Arguments),
    Symbols(symbols::Arguments),
    Diagnostics(diagnostics::Arguments),
    /// With the arguments as they were written, which the edit engine reads.
    Edit(edit::Arguments, String),
    Run(run::Arguments),
    Tests(tests::Arguments),
    GitDiff(git_diff::Arguments),
    GitLog(git_log::Arguments),
    AskUser(ask_user::Arguments),
    Plan(plan::Arguments),
    Finish(finish::Arguments),
    /// A tool of an MCP server, with its arguments.
    Mcp(Map<String, Value>),
}

/// The tools that one task has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'t> {
    pub(super) mode: Mode,
    pub(super) servers: &'t mcp::Connected,
    /// Whether there is an editor that tells what it shows as wrong.
    pub(super) asks_editor: bool,
}

impl Tools<'_> {
    /// Reads a call.
    ///
    /// # Errors
    /// What is wrong, in words the model can act on.
    pub(super) fn parse(&self, call: &ToolCall) -> Result<Call, String> {
        let text = call.arguments.as_str();
        let read = match call.name.as_str() {
            read_file::NAME => arguments(text).map(Call::ReadFile),
            list::NAME => arguments(text).map(Call::List),
            search::NAME => arguments(text).map(Call::Search),
            grep::NAME => arguments(text).map(Call::Grep),
            symbols::NAME => arguments(text).map(Call::Symbols),
            diagnostics::NAME => arguments(text).map(Call::Diagnostics),
            edit::NAME => arguments(text).map(|a| Call::Edit(a, text.to_owned())),
            run::NAME => arguments(text).map(Call::Run),
            tests::NAME => arguments(text).map(Call::Tests),
            git_diff::NAME => arguments(text).map(Call::GitDiff),
            git_log::NAME => arguments(text).map(Call::GitLog),
            ask_user::NAME => arguments(text).map(Call::AskUser),
            plan::NAME => arguments(text).map(Call::Plan),
            finish::NAME => arguments(text).map(Call::Finish),
            other if self.mode.changes() && self.servers.has(other) => {
                arguments(text).map(Call::Mcp)
            }
            other => {
                let others = self.servers.specs().map(|spec| spec.name.as_str());
                let mut names: Vec<&str> = self.names().collect();
                names.extend(others);
                return Err(format!(
                    "there is no tool {other:?}; there are: {}",
                    names.join(", ")
                ));
            }
        };
        let read =
            read.map_err(|why| format!("the arguments of {} cannot be read: {why}", call.name))?;
        if matches!(read, Call::Mcp(_)) || self.names().any(|name| name == call.name) {
            return Ok(read);
        }
        Err(match read {
            Call::Diagnostics(_) => "there is no editor that tells what it shows".into(),
            _ => format!(
                "{} is not there in the mode {}: nothing is changed and no command is run",
                call.name,
                self.mode.name()
            ),
        })
    }

    /// What the model is told, in an order that never changes.
    pub(super) fn specs(&self) -> Vec<ToolSpec> {
        let all = [
            spec::<read_file::Arguments>(read_file::NAME, read_file::ABOUT),
            spec::<list::Arguments>(list::NAME, list::ABOUT),
            spec::<search::Arguments>(search::NAME, search::ABOUT),
            spec::<grep::Arguments>(grep::NAME, grep::ABOUT),
            spec::<symbols::Arguments>(symbols::NAME, symbols::ABOUT),
            spec::<diagnostics::Arguments>(diagnostics::NAME, diagnostics::ABOUT),
            spec::<edit::Arguments>(edit::NAME, edit::ABOUT),
            spec::<run::Arguments>(run::NAME, run::ABOUT),
            spec::<tests::Arguments>(tests::NAME, tests::ABOUT),
            spec::<git_diff::Arguments>(git_diff::NAME, git_diff::ABOUT),
            spec::<git_log::Arguments>(git_log::NAME, git_log::ABOUT),
            spec::<ask_user::Arguments>(ask_user::NAME, ask_user::ABOUT),
            spec::<plan::Arguments>(plan::NAME, plan::ABOUT),
            spec::<finish::Arguments>(finish::NAME, finish::ABOUT),
        ];
        all.into_iter()
            .filter(|spec| self.names().any(|name| name == spec.name))
            .chain(self.servers.specs().cloned())
            .collect()
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        const READING: &[&str] = &[
            read_file::NAME,
            list::NAME,
            search::NAME,
            grep::NAME,
            symbols::NAME,
            git_diff::NAME,
            git_log::NAME,
            ask_user::NAME,
            plan::NAME,
            finish::NAME,
        ];
        const ASKING: &[&str] = &[diagnostics::NAME];
        let asking = if self.asks_editor { ASKING } else { &[] };
        let changing = if self.mode.changes() { CHANGING } else { &[] };
        [READING, asking, changing].into_iter().flatten().copied()
    }
}

/// The tools of ours that change files or run something.
const CHANGING: &[&str] = &[edit::NAME, run::NAME, tests::NAME];

/// Returns whether a tool of this name does more than look, ask and tell: changes files, runs
/// something, or is another program's.
pub(super) fn changes(name: &str) -> bool {
    CHANGING.contains(&name) || name.starts_with(mcp::PREFIX)
}

/// Returns whether a tool of this name takes time and says something, as opposed to those that ask,
/// plan and end.
pub(super) fn works(name: &str) -> bool {
    ![ask_user::NAME, plan::NAME, finish::NAME].contains(&name)
}

/// Longest arguments that are read, in bytes.
const MAX_ARGUMENTS: usize = 4 << 20;

fn arguments<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.len() > MAX_ARGUMENTS {
        return Err("they are too long".into());
    }
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|why| why.to_string())
}

impl Call {
    /// What running the call a second time would do.
    pub(super) fn effect(&self) -> Effect {
        match self {
            Self::ReadFile(_)
            | Self::List(_)
            | Self::Search(_)
            | Self::Grep(_)
            | Self::Symbols(_)
            | Self::Diagnostics(_)
            | Self::GitDiff(_)
            | Self::GitLog(_) => Effect::Read,
            Self::Edit(..) | Self::Plan(_) | Self::Finish(_) => Effect::Propose,
            Self::Run(_) | Self::Tests(_) => Effect::Command,
            Self::Mcp(_) => Effect::Outside,
            Self::AskUser(_) => Effect::Ask,
        }
    }
}

/// Arguments in one form, however they were written.
pub(super) fn canonical(arguments: &str) -> String {
    serde_json::from_str::<Value>(arguments)
        .map_or_else(|_| arguments.to_owned(), |v| v.to_string())
}

fn spec<T: JsonSchema>(name: &str, about: &str) -> ToolSpec {
    let settings = SchemaSettings::draft07().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("title");
        schema.remove("description");
    }
    ToolSpec {
        name: name.to_owned(),
        description: about.to_owned(),
        schema,
    }
}
