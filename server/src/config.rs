//! Every setting, once: the type here is the source of the JSON Schema, the settings reference
//! and the editors' generated settings.
//!
//! Holds: defaults work with no file, no key and no network. A layer can never make the whole
//! unusable: a value of the wrong type is reported and left out ([`layers`]).
//! Not here: where the layers come from at run time (`lsp`), what a setting does.

pub mod current;
pub mod layers;
pub mod reference;
pub mod sources;
pub mod trust;
pub mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::model::{Api, HttpVersion, Prices, TurnApi};

/// All settings, in the words of the settings files (`camelCase` keys).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// The models Pairwright may ask. Without any, everything runs on this machine.
    pub models: Models,
    /// Ghost text.
    pub complete: Complete,
    /// The embedded completion engine, which learns from the workspace and needs no model.
    pub local: Local,
    /// The repository index, which finds the code a model is shown.
    pub index: Index,
    /// Tasks that a model carries out with tools.
    pub agent: Agent,
    /// Where the commands of tasks run.
    pub sandbox: Sandbox,
    /// Tools of other programs, for tasks.
    pub mcp: Mcp,
    /// What is looked at before it is sent to a model.
    pub outbound: Outbound,
    /// Which folders may set anything or have their code run.
    pub workspace: Workspace,
    /// How to reach the network, for model endpoints and MCP servers only.
    pub network: Network,
    /// The server's log.
    pub log: Log,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Models {
    /// The model that writes ghost text. Unset: the embedded engine alone.
    pub complete: Option<Model>,
    /// The model that turns code and questions into vectors for search: any endpoint that answers
    /// `POST /embeddings` as OpenAI does. It is sent every indexed piece of the workspace once;
    /// `api`, `template`, `stop` and `logitBias` mean nothing here. Unset: embedded vectors, on this machine.
    pub embed: Option<Model>,
    /// The model that answers in chat. Unset: questions are answered with the best places of the
    /// repository, by search alone.
    pub chat: Option<TurnModel>,
    /// Models that answer in chat when the one of `models.chat` cannot be reached, fails or limits
    /// requests for longer than is waited; in this order.
    pub chat_fallbacks: Vec<TurnModel>,
    /// The model that carries out tasks. Unset: the one of chat.
    pub agent: Option<TurnModel>,
    /// The same for tasks. Unset, and without `models.agent`: those of chat.
    pub agent_fallbacks: Vec<TurnModel>,
    /// The model that proposes the next edit where the user's last one does not say it by itself;
    /// a quick one. It is asked at each pause in typing, with parts of the open files. Unset: only
    /// what repeats the last edit is proposed.
    pub edit: Option<TurnModel>,
}

/// One model endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Model {
    /// The dialect the endpoint speaks: `openai` (completions with a suffix), `fim` (completions
    /// with the model family's own fill-in-the-middle tokens), `llamacpp` (/infill), `ollama`
    /// (/api/generate), `mistral` or `deepseek`.
    pub api: Api,
    /// The endpoint's base URL, for example `http://localhost:8080` or
    /// `https://api.example.com/v1`.
    pub url: String,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// The environment variable that holds the API key.
    pub api_key_env: Option<String>,
    /// A command whose output is the API key: the program and its arguments, run without a shell in
    /// your home directory.
    pub api_key_command: Option<Vec<String>>,
    /// HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS,
    /// by prior knowledge) or `1.1`.
    pub http: HttpVersion,
    /// Further headers to send, for gateways that want them. Put keys in the environment instead.
    pub headers: BTreeMap<String, String>,
    /// Fill-in-the-middle template to use instead of the one found by the model's name.
    pub template: Option<String>,
    /// Texts that end a suggestion, besides the model family's own end tokens: for tokens that a
    /// model leaks into its text.
    pub stop: Vec<String>,
    /// How much likelier (up to 100) or less likely (down to -100) the model is to write a token, by
    /// the token's number, for example `{ "50256" = -100 }`. Told to servers of the dialects `openai`,
    /// `fim` and `llamacpp`.
    pub logit_bias: BTreeMap<String, f32>,
}

/// One model endpoint for conversations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TurnModel {
    /// The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have),
    /// `anthropic` (/messages) or `ollama` (/api/chat).
    pub api: TurnApi,
    /// The endpoint's base URL, for example `http://localhost:11434` or
    /// `https://api.example.com/v1`.
    pub url: String,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// The environment variable that holds the API key.
    pub api_key_env: Option<String>,
    /// A command whose output is the API key: the program and its arguments, run without a shell in
    /// your home directory.
    pub api_key_command: Option<Vec<String>>,
    /// HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS,
    /// by prior knowledge) or `1.1`.
    pub http: HttpVersion,
    /// Further headers to send, for gateways that want them. Put keys in the environment instead.
    pub headers: BTreeMap<String, String>,
    /// Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for
    /// `anthropic`, 16384 for `ollama`, which takes memory for all of them.
    #[schemars(range(min = 2_048, max = 10_000_000))]
    pub context_tokens: Option<u32>,
    /// Tokens the model may think before it answers, where the dialect can say so (`anthropic`;
    /// for `ollama` 0 switches thinking off). Unset: as the server likes.
    pub thinking_tokens: Option<u32>,
    /// What the model costs, for budgets and reports. Unset: what the server says, if it does.
    pub prices: Option<Prices>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Complete {
    /// Whether ghost text is offered at all.
    pub enabled: bool,
    /// Switches ghost text per language id, for example `{ "markdown": false }`. Languages not
    /// named here are on.
    pub languages: BTreeMap<String, bool>,
    /// Milliseconds after the request at which the best answer so far is given. Late is wrong:
    /// a model that needs longer is replaced by the embedded engine for that keystroke.
    #[schemars(range(min = 1, max = 10_000))]
    pub deadline_ms: u32,
    /// Milliseconds to wait for the next keystroke before a model is asked; the deadline counts
    /// from their end. Unset: adapts to the typing rhythm, and is zero after a pause.
    #[schemars(range(max = 5_000))]
    pub debounce_ms: Option<u32>,
    /// Most lines of one suggestion.
    #[schemars(range(min = 1, max = 200))]
    pub max_lines: u32,
    /// Whether, after an edit, the edit that follows from it elsewhere is proposed: a renamed name,
    /// a call whose arguments changed, or what the model of `models.edit` says.
    pub next_edit: bool,
}

impl Default for Complete {
    fn default() -> Self {
        Self {
            enabled: true,
            languages: BTreeMap::new(),
            deadline_ms: 180,
            debounce_ms: None,
            max_lines: 16,
            next_edit: true,
        }
    }
}

impl Complete {
    /// Whether ghost text is wanted for `language`, a language id in lower case.
    pub fn wants(&self, language: &str) -> bool {
        self.enabled && self.languages.get(language).copied().unwrap_or(true)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Local {
    /// Whether the embedded engine learns and answers.
    pub enabled: bool,
    /// Most memory the engine may hold, in MiB. When the workspace needs more, the files nearest
    /// to the open ones are learnt.
    #[schemars(range(min = 8, max = 65_536))]
    pub memory_mb: u32,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            enabled: true,
            memory_mb: 256,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Workspace {
    /// Folders that are trusted, with all below them, and no others: nobody is asked then. Unset:
    /// those that you trusted when you were asked, or by `pairwright trust`. In others
    /// `.pairwright.toml` is not read, and tasks look and plan without changing or running
    /// anything.
    pub trusted: Option<Vec<PathBuf>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Index {
    /// Whether the workspace is indexed, in the user's cache directory. Without it a model is
    /// shown open files only.
    pub enabled: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self { enabled: true }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Agent {
    /// Whether tasks that change something work on a branch of their own, `agent/<task>`, in a git
    /// working tree beside yours: your files stay as they are, and what a task changes is committed
    /// there instead of being proposed as hunks. Where a task is started, it can be said otherwise.
    pub worktree: bool,
    /// Programs whose output tasks are shown when they begin, by a title of yours: what the last runs
    /// of CI came to, say, or which issues are meant for agents. Each is a program and its arguments,
    /// run without a shell in the task's folder, if that is trusted; 4 KiB and 10 seconds are its
    /// limits, and a task begins without one that fails. The first eight by title are asked.
    pub startup: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sandbox {
    /// The weakest sandbox of this machine that commands may run in: `namespace` (shares this
    /// machine's kernel), `gvisor` (gVisor's kernel between), `vm-emulated` (a virtual machine, slow, no hardware boundary) or `vm` (one
    /// that the processor separates). The strongest that starts here is taken, an emulated one only
    /// where it is demanded; where none is as strong as this, no command runs. `landlock` accepts, where
    /// users may make no namespaces, a restricted process without a network: it shares this machine's
    /// kernel, processes and other state, and works in a copy of the folder.
    pub min_isolation: Isolation,
    /// QEMU, for virtual machines, where it is not on the search path.
    pub qemu: Option<PathBuf>,
    /// The kernel of virtual machines, where there is none in /boot; its modules are looked for
    /// beside it.
    pub kernel: Option<PathBuf>,
    /// gVisor's `runsc`, where it is not on the search path. One that is not there is not used.
    pub runsc: Option<PathBuf>,
    /// A service that makes sandboxes elsewhere, by E2B's protocol. Set: all commands of tasks run
    /// there, in a copy of the folder without git's files, ignored files and files of secrets.
    pub remote: Option<RemoteSandbox>,
}

/// How strong a sandbox of this machine must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    Landlock,
    #[default]
    Namespace,
    Gvisor,
    VmEmulated,
    Vm,
}

/// A service of sandboxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteSandbox {
    /// Its base URL, for example `https://api.example.com`, or that of `pairwright sandboxd` on a
    /// Linux machine.
    pub url: String,
    /// The environment variable that holds its key.
    pub api_key_env: Option<String>,
    /// A command whose output is its key: the program and its arguments, run without a shell in
    /// your home directory.
    pub api_key_command: Option<Vec<String>>,
    /// The template that sandboxes are made of. It needs a shell, tar, GNU find and what the
    /// project's commands need.
    pub template: String,
    /// How requests name the sandbox they are for: `header`, `subdomain` (of the URL's host) or
    /// `path`. Unset: `subdomain` where the URL's host begins with `api.`, else `header`.
    pub addressing: Option<SandboxAddressing>,
}

impl Default for RemoteSandbox {
    fn default() -> Self {
        Self {
            url: String::new(),
            api_key_env: None,
            api_key_command: None,
            template: "base".to_owned(),
            addressing: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SandboxAddressing {
    Header,
    Subdomain,
    Path,
}

/// Requests to models, ghost text as well as turns and embeddings, that are looked at before they
/// are sent. What is not let go, or cannot be looked at, is not sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Outbound {
    /// Regular expressions. A request with a text in which one of them is found is not sent.
    pub patterns: Vec<String>,
    /// A program and its arguments, run without a shell in your home directory for each request. It
    /// gets the request as JSON on its standard input and where it is to go in
    /// `PAIRWRIGHT_DESTINATION`. Only if it ends with 0 the request is sent; the first line it prints
    /// is the reason otherwise.
    pub command: Option<Vec<String>>,
    /// The address of a service that is asked (`POST`, the request as JSON, with where it is to go in
    /// the header `Pairwright-Destination`). Only if it answers `{"allow": true}` the request is sent;
    /// `{"allow": false, "reason": "…"}` says why not.
    pub url: Option<String>,
    /// The environment variable that holds the service's key.
    pub api_key_env: Option<String>,
    /// A command whose output is the service's key: the program and its arguments, run without a
    /// shell in your home directory.
    pub api_key_command: Option<Vec<String>>,
    /// Milliseconds that the program and the service each have.
    #[schemars(range(min = 10, max = 10_000))]
    pub timeout_ms: u32,
    /// Hosts of models that are sent requests unseen, for example your own.
    pub except: Vec<String>,
    /// Whether some of these settings could not be read.
    #[serde(skip)]
    pub is_unread: bool,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            command: None,
            url: None,
            api_key_env: None,
            api_key_command: None,
            timeout_ms: 2_000,
            except: Vec::new(),
            is_unread: false,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Mcp {
    /// Servers that offer tools by the Model Context Protocol, by a name you give them (letters,
    /// digits, `-` and `_`). A task knows their tools as `mcp__<name>__<tool>`; each call is asked
    /// for unless your rules say otherwise. From your own settings alone, never from a workspace.
    pub servers: BTreeMap<String, McpServer>,
}

/// One MCP server: a program that is started, or an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct McpServer {
    /// The program to start for each task, run without a shell and in your home directory. Set this
    /// or `url`.
    pub command: Option<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Environment variables for the program. It gets no others of yours than those a login has
    /// (`PATH`, `HOME`, …) and those named in `passEnv`.
    pub env: BTreeMap<String, String>,
    /// Names of your environment variables that the program is handed, keys for example.
    pub pass_env: Vec<String>,
    /// The address of a server that speaks streamable HTTP.
    pub url: Option<String>,
    /// Further headers to send to it. Put keys in the environment instead.
    pub headers: BTreeMap<String, String>,
    /// The environment variable that holds the server's key, sent as `Authorization: Bearer …`.
    pub api_key_env: Option<String>,
    /// Seconds until it must have told its tools; a task goes on without it then.
    #[schemars(range(min = 1, max = 120))]
    pub startup_seconds: u32,
}

impl Default for McpServer {
    fn default() -> Self {
        Self {
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            url: None,
            headers: BTreeMap::new(),
            api_key_env: None,
            startup_seconds: 10,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Proxy for model endpoints, for example `http://proxy:3128`. Unset: `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `NO_PROXY` of the environment.
    pub proxy: Option<String>,
    /// Files with further certificate authorities to trust, in PEM form: for models, and for the
    /// service that `sandbox.remote` names.
    pub ca_certificates: Vec<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Log {
    /// How much is logged.
    pub level: LogLevel,
    /// The log file. Unset: `pairwright.log` in the state directory.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[cfg(test)]
mod tests;
