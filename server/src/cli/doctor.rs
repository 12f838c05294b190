//! `pairwright doctor`: is everything as it should be, and what to do where it is not.

mod print;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexer::{Index, Phase, Role};
use serde::Serialize;

use super::index::folder;
use crate::agent::agents_file::{self, Wear};
use crate::complete::engines::Engines;
use crate::config::current::Current;
use crate::config::layers::Origin;
use crate::config::reference::is_private;
use crate::config::sources::Directories;
use crate::config::{self, Settings};
use crate::edit::disk::{Content, Root};
use crate::edit::path::RepoPath;
use crate::edit::workspace::directory_of;
use crate::error::UserError;
use crate::index::cache_dir;
use crate::local;
use crate::mcp::{Found, Servers};
use crate::model::{Embedder, Model, Probe, TurnModel};
use crate::secret;
use crate::store::Store;

/// How long the engine is given to learn, and the index to be brought up to date, before they are
/// reported as they are.
const PATIENCE: Duration = Duration::from_secs(30);

/// Faults of the index that are told.
const FAULTS: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Folder to look at as a workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// All that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: &'static str,
    directories: BTreeMap<&'static str, Option<PathBuf>>,
    settings_file: Option<PathBuf>,
    settings: Vec<Setting>,
    model: Option<ModelReport>,
    chat: Option<TurnModelReport>,
    /// `None` when tasks go to the model of chat.
    agent: Option<TurnModelReport>,
    /// Of chat, and of tasks where they have their own, in their order.
    fallbacks: Vec<TurnModelReport>,
    edit: Option<TurnModelReport>,
    embed: Option<EmbedderReport>,
    /// The service of `sandbox.remote`.
    sandbox: Option<SandboxReport>,
    /// Servers that answered; why others did not is among the problems.
    mcp: Vec<Found>,
    engine: Option<EngineReport>,
    /// `None` when it is switched off or cannot be kept, as `problems` says.
    index: Option<IndexReport>,
    problems: Vec<Problem>,
}

/// A setting that is not at its default.
#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: serde_json::Value,
    origin: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelReport {
    place: String,
    protocol: Option<String>,
    /// How completions are asked for.
    way: String,
    fill_in_the_middle: String,
    connect_ms: Option<f64>,
    first_text_ms: Option<f64>,
    answer_ms: Option<f64>,
    /// Models that the server offers.
    models: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EmbedderReport {
    place: String,
    model: String,
    /// `None` when it did not answer, as `problems` says.
    answer_ms: Option<f64>,
    /// Of one vector.
    numbers: Option<usize>,
}

/// A service of sandboxes.
#[derive(Debug, Serialize)]
struct SandboxReport {
    place: String,
    /// Sandboxes that run there; `None` when it did not answer, as `problems` says.
    running: Option<usize>,
}

/// A model for conversations. It is connected to and shown the key, and not asked: an answer costs
/// money.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnModelReport {
    place: String,
    model: String,
    protocol: Option<String>,
    way: &'static str,
    connect_ms: Option<f64>,
    context_tokens: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EngineReport {
    files: usize,
    bytes: u64,
    memory_bytes: usize,
    memory_cap_bytes: usize,
    is_capped: bool,
    learnt_in_ms: f64,
    is_still_learning: bool,
    /// Files that were not learnt, by reason.
    skipped: BTreeMap<String, usize>,
}

/// The repository index of the folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexReport {
    state: Phase,
    files: usize,
    indexed: usize,
    /// Files that wait to be looked at.
    pending: usize,
    /// It is not yet of the commit that is checked out.
    is_behind: bool,
    /// Another process keeps it.
    is_follower: bool,
    faults: usize,
    /// What the first of them are.
    first_faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Problem {
    message: String,
    hint: Option<String>,
}

impl From<&UserError> for Problem {
    fn from(error: &UserError) -> Self {
        Self {
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = folder(&self.root)?;
        let runtime = super::runtime()?;
        let report = runtime.block_on(examine(root));
        runtime.shutdown_background();
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            print::print(&mut out, &report)?;
        }
        Ok(if report.problems.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

async fn examine(root: PathBuf) -> Report {
    let directories = Directories::find();
    let current = Current::load(directories.clone());
    current.set_roots(vec![root.clone()]);
    let resolved = current.get();
    let mut problems: Vec<Problem> = resolved
        .problems
        .iter()
        .map(|p| Problem {
            message: p.to_string(),
            hint: Some(match &p.origin {
                Origin::WorkspaceFile(_) if !resolved.trust.trusts(&root) => {
                    "Read it, and run `pairwright trust` here if it may have its say.".into()
                }
                _ => "Correct it there; editors/SETTINGS.md lists all settings.".into(),
            }),
        })
        .collect();
    problems.extend(unusable(&directories));
    problems.extend(unusable_store(&directories, &root));
    problems.extend(worn_agents_file(&root));
    let settings = settings(&resolved);
    let roots = std::slice::from_ref(&root);
    let (engines, failed) =
        Engines::default().with(Arc::new(resolved.settings.clone()), roots, &[]);
    problems.extend(failed.iter().map(Problem::from));
    let model = match engines.model() {
        Some(model) => Some(examine_model(model, &mut problems).await),
        None => None,
    };
    let models = &engines.models;
    let chat = match &models.chat {
        Some(model) => Some(examine_turn_model(model, &mut problems).await),
        None => None,
    };
    let agent = match (&models.agent, &resolved.settings.models.agent) {
        (Some(model), Some(_)) => Some(examine_turn_model(model, &mut problems).await),
        _ => None,
    };
    let mut fallbacks = Vec::new();
    let of_chat = models.chat.iter().flat_map(TurnModel::fallbacks);
    let of_agent = models.agent.iter().flat_map(TurnModel::fallbacks);
    let own = of_agent.filter(|model| model.endpoint().section == "models.agentFallbacks");
    for model in of_chat.chain(own) {
        fallbacks.push(examine_turn_model(model, &mut problems).await);
    }
    let edit = match &models.edit {
        Some(model) => Some(examine_turn_model(model, &mut problems).await),
        None => None,
    };
    let embed = match &models.embed {
        Some(model) => Some(examine_embedder(model, &mut problems).await),
        None => None,
    };
    let sandbox = match &resolved.settings.sandbox.remote {
        Some(remote) => Some(examine_sandboxes(remote, &resolved.settings, &mut problems).await),
        None => None,
    };
    let mcp = examine_servers(&resolved.settings, &mut problems).await;
    // Both work in the background from now on; the engine is done first.
    let deadline = Instant::now() + PATIENCE;
    let engine = engines
        .local
        .map(|engine| examine_engine(&engine, resolved.settings.local.memory_mb, deadline));
    let index = match resolved.settings.index.enabled {
        true => examine_index(&root, &directories, deadline)
            .map_err(|problem| problems.push(problem))
            .ok(),
        false => None,
    };
    Report {
        version: env!("CARGO_PKG_VERSION"),
        settings_file: directories.user_file(),
        directories: BTreeMap::from([
            ("cache", directories.cache),
            ("settings", directories.config),
            ("state", directories.state),
        ]),
        settings,
        model,
        chat,
        agent,
        fallbacks,
        edit,
        embed,
        sandbox,
        mcp,
        engine,
        index,
        problems,
    }
}

/// Lists what keeps the server from writing where it wants to.
fn unusable(directories: &Directories) -> Vec<Problem> {
    let Some(state) = &directories.state else {
        return vec![Problem {
            message: "There is no home directory, so no log and no state are kept.".into(),
            hint: Some("Set HOME, or XDG_STATE_HOME and XDG_CONFIG_HOME.".into()),
        }];
    };
    let written = std::fs::create_dir_all(state).and_then(|()| {
        let probe = state.join(".writable");
        std::fs::write(&probe, []).and_then(|()| std::fs::remove_file(&probe))
    });
    let problem = |why: std::io::Error| Problem {
        message: format!(
            "The state directory {} cannot be written: {why}.",
            state.display()
        ),
        hint: Some("Make it writable, or set XDG_STATE_HOME to a folder that is.".into()),
    };
    written.err().map(problem).into_iter().collect()
}

/// Says why the edits and tasks of a folder cannot be kept, where something of it is kept already.
fn unusable_store(directories: &Directories, root: &Path) -> Option<Problem> {
    let directory = directory_of(root, directories.state.as_deref()?);
    if !Store::is_in(&directory) {
        return None;
    }
    let why = Store::open(&directory).err()?;
    Some(Problem {
        message: format!("Edits, chats and tasks are not possible here: {why}."),
        hint: None,
    })
}

/// Says why the folder's AGENTS.md should be looked at again.
fn worn_agents_file(root: &Path) -> Option<Problem> {
    let root = Root::open(root, None).ok()?;
    let Content::File(file) = root.read(&RepoPath::parse(agents_file::NAME).ok()?).ok()? else {
        return None;
    };
    let worn = Wear::of(&root, &String::from_utf8_lossy(&file.bytes)).in_words()?;
    Some(Problem {
        message: format!("AGENTS.md {worn}."),
        hint: Some("Review it: every task here is shown it.".into()),
    })
}

fn settings(resolved: &config::layers::Resolved) -> Vec<Setting> {
    let values = serde_json::to_value(&resolved.settings).unwrap_or_default();
    let value = |key: &str| {
        key.split('.')
            .try_fold(&values, |v, k| v.get(k))
            .cloned()
            .unwrap_or_default()
    };
    let shown = |key: &String| match (is_private(key), value(key)) {
        (true, serde_json::Value::String(address)) => without_secrets(&address).into(),
        (true, _) => "(not shown)".into(),
        // A key pasted where the name of its variable belongs.
        (false, serde_json::Value::String(text)) => secret::redact(&text).into(),
        (false, value) => value,
    };
    let setting = |(key, origin): (&String, &Origin)| Setting {
        key: key.clone(),
        value: shown(key),
        origin: origin.to_string(),
    };
    resolved.origins.iter().map(setting).collect()
}

/// An address without what may be a secret in it; other texts are not shown at all.
fn without_secrets(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(url) if url.has_host() => {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}://{host}{port}{}", url.scheme(), url.path())
        }
        _ => "(not shown)".to_owned(),
    }
}

async fn examine_model(model: &Model, problems: &mut Vec<Problem>) -> ModelReport {
    let probe: Arc<Probe> = model.probe_again().await;
    problems.extend(probe.error.iter().map(|e| Problem::from(&e.user_error())));
    problems.extend(probe.advice.iter().map(Problem::from));
    let ms = |time: Option<Duration>| time.map(|t| (t.as_secs_f64() * 1e4).round() / 10.0);
    ModelReport {
        place: model.place().to_owned(),
        protocol: probe.protocol.map(|p| p.to_string()),
        way: probe.way.clone(),
        fill_in_the_middle: format!("{:?}", probe.fim).to_lowercase(),
        connect_ms: ms(probe.connect),
        first_text_ms: ms(probe.first_text),
        answer_ms: ms(probe.answer),
        models: probe.models.clone(),
    }
}

async fn examine_sandboxes(
    remote: &config::RemoteSandbox,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> SandboxReport {
    let place = without_secrets(&remote.url);
    let running = crate::sandbox::look(remote, &settings.network.ca_certificates).await;
    if let Err(why) = &running {
        problems.push(match why.downcast_ref::<UserError>() {
            Some(why) => Problem::from(why),
            None => Problem {
                message: format!("Commands of tasks cannot run at {place}: {why:#}."),
                hint: Some("Check `sandbox.remote`; without it they run on this machine.".into()),
            },
        });
    }
    SandboxReport {
        place,
        running: running.ok(),
    }
}

async fn examine_turn_model(model: &TurnModel, problems: &mut Vec<Problem>) -> TurnModelReport {
    let started = Instant::now();
    let connected = model.connect().await;
    let took = (started.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    problems.extend(
        connected
            .as_ref()
            .err()
            .map(|e| Problem::from(&e.user_error())),
    );
    let tried = model.try_key().await.err();
    let tried = tried.filter(|why| connected.as_ref().err() != Some(why));
    problems.extend(tried.map(|e| Problem::from(&e.user_error())));
    // A turn would cost money; whether one would be let go does not.
    let looked = model.look("May this be sent?").await;
    problems.extend(looked.err().map(|e| Problem::from(&e.user_error())));
    let endpoint = model.endpoint();
    TurnModelReport {
        place: model.place().to_owned(),
        model: endpoint.model.clone(),
        protocol: connected.as_ref().ok().map(ToString::to_string),
        way: endpoint.api.in_words(),
        connect_ms: connected.is_ok().then_some(took),
        context_tokens: endpoint.context,
    }
}

/// Starts and asks the MCP servers, as a task would, and ends them again.
async fn examine_servers(settings: &Settings, problems: &mut Vec<Problem>) -> Vec<Found> {
    let connected = Servers::of(settings).connect().await;
    problems.extend(connected.problems.iter().map(Problem::from));
    let found = connected.found();
    connected.close().await;
    found
}

async fn examine_embedder(model: &Embedder, problems: &mut Vec<Problem>) -> EmbedderReport {
    let started = Instant::now();
    let answer = model.embed(&["fn area(side: u32) -> u32".to_owned()]).await;
    let took = (started.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    let failed = answer.as_ref().err();
    problems.extend(failed.map(|why| Problem::from(&why.user_error())));
    let numbers = answer.as_ref().ok().and_then(|rows| rows.first());
    EmbedderReport {
        place: model.place().to_owned(),
        model: model.endpoint().model.clone(),
        answer_ms: numbers.is_some().then_some(took),
        numbers: numbers.map(Vec::len),
    }
}

/// Brings the index up to date, as an editor would, until `deadline`.
fn examine_index(
    root: &Path,
    directories: &Directories,
    deadline: Instant,
) -> Result<IndexReport, Problem> {
    let cache = cache_dir(directories).map_err(|why| Problem::from(&why))?;
    let index = Index::open(super::index::options(root, &cache)).map_err(|why| Problem {
        message: format!("The index of {} cannot be kept: {why}.", root.display()),
        hint: Some(format!(
            "Make {} writable, or set XDG_CACHE_HOME to a folder that is.",
            cache.display()
        )),
    })?;
    index.wait_until_settled(deadline);
    let status = index.status();
    let fault = |fault: &indexer::Fault| match &*fault.path {
        "" => fault.message.clone(),
        path => format!("{path}: {}", fault.message),
    };
    Ok(IndexReport {
        state: status.phase,
        files: status.n_files,
        indexed: status.n_indexed,
        pending: status.pending,
        is_behind: status.indexed_commit != status.head.commit,
        is_follower: status.role == Role::Follower,
        faults: status.n_faults,
        first_faults: status.faults.iter().take(FAULTS).map(fault).collect(),
    })
}

fn examine_engine(engine: &local::Engine, memory_mb: u32, deadline: Instant) -> EngineReport {
    let started = Instant::now();
    let learnt = engine.wait_learnt(deadline);
    let status = engine.status();
    EngineReport {
        files: status.files,
        bytes: status.bytes,
        memory_bytes: status.memory,
        memory_cap_bytes: (memory_mb as usize) << 20,
        is_capped: status.is_capped,
        learnt_in_ms: (started.elapsed().as_secs_f64() * 1e4).round() / 10.0,
        is_still_learning: !learnt,
        skipped: status
            .skipped
            .iter()
            .map(|(reason, n)| (format!("{reason:?}").to_lowercase(), *n))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::layers::{Layer, Origin, resolve};

    #[test]
    fn secrets_among_the_settings_are_not_shown() {
        let values = json!({
            "models": {"chat": {
                "url": "https://me:hunter2@example.org/v1?key=hunter2",
                "apiKeyCommand": ["pass", "hunter2"],
                "apiKeyEnv": "sk-proj-hunter2aB3cD4eF5g",
                "headers": {"X-Key": "hunter2"},
                "model": "m-1",
            }},
            "network": {"proxy": "http://me:hunter2@proxy:3128"},
        });
        let layer = Layer {
            origin: Origin::Editor,
            values: values.as_object().unwrap().clone(),
        };
        let shown: Vec<String> = settings(&resolve(&[layer]))
            .iter()
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        assert_eq!(
            shown,
            [
                "models.chat.apiKeyCommand = \"(not shown)\"",
                "models.chat.apiKeyEnv = \"[redacted key]\"",
                "models.chat.headers.X-Key = \"(not shown)\"",
                "models.chat.model = \"m-1\"",
                "models.chat.url = \"https://example.org/v1\"",
                "network.proxy = \"http://proxy:3128/\"",
            ]
        );
    }
}
