//! Where settings are found: the user's file, files in workspaces, the environment.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde_json::{Map, Value};

use super::layers::{Layer, Origin, Problem};
use super::reference::{environment_name, known_keys};

/// Name of the settings file of a workspace.
pub const WORKSPACE_FILE: &str = ".pairwright.toml";
/// Largest settings file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The directories Pairwright may use; `None` where the user has no home directory.
#[derive(Debug, Clone, Default)]
pub struct Directories {
    pub config: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub cache: Option<PathBuf>,
}

impl Directories {
    /// Finds them by the XDG rules (on Windows by its own).
    pub fn find() -> Self {
        let Ok(base) = etcetera::choose_base_strategy() else {
            return Self::default();
        };
        // An empty home would put everything under the working directory.
        if base.home_dir().as_os_str().is_empty() {
            return Self::default();
        }
        Self {
            config: Some(base.config_dir().join("pairwright")),
            state: base
                .state_dir()
                .or_else(|| Some(base.data_dir()))
                .map(|d| d.join("pairwright")),
            cache: Some(base.cache_dir().join("pairwright")),
        }
    }

    /// The user's settings file: `PAIRWRIGHT_CONFIG`, or `config.toml` in the settings directory.
    pub fn user_file(&self) -> Option<PathBuf> {
        env::var_os("PAIRWRIGHT_CONFIG")
            .map(PathBuf::from)
            .or_else(|| self.config.as_ref().map(|d| d.join("config.toml")))
    }
}

/// Reads the user's settings file; `None` when there is none.
pub fn user_layer(directories: &Directories) -> (Option<Layer>, Option<Problem>) {
    match directories.user_file() {
        Some(path) => read_file(&path, Origin::UserFile(path.clone())),
        None => (None, None),
    }
}

/// Reads `.pairwright.toml` of a workspace folder; `None` when there is none.
pub fn workspace_layer(root: &Path) -> (Option<Layer>, Option<Problem>) {
    let path = root.join(WORKSPACE_FILE);
    read_file(&path, Origin::WorkspaceFile(path.clone()))
}

/// Reads the environment variables that name settings.
///
/// A value is read as JSON where that fits (numbers, booleans, lists), else as text.
pub fn environment_layer(variables: impl Fn(&str) -> Option<String>) -> Layer {
    let mut values = Map::new();
    for key in known_keys().leaves.keys() {
        let Some(text) = variables(&environment_name(key)) else {
            continue;
        };
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let mut table = &mut values;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value);
                break;
            }
            let inner = table
                .entry(part)
                .or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { break };
            table = inner;
        }
    }
    Layer {
        origin: Origin::Environment,
        values,
    }
}

/// Takes our section out of what an editor sent as its settings: the value of `pairwright` when
/// there is one, the object itself when it holds a key of ours, else nothing.
pub fn editor_layer(sent: &Value) -> Option<Layer> {
    let object = sent.as_object()?;
    let ours = match object.get("pairwright") {
        Some(section) => section.as_object()?.clone(),
        None => {
            let known = known_keys();
            let is_ours = |key: &String| {
                known
                    .leaves
                    .keys()
                    .any(|k| k.split('.').next() == Some(key))
            };
            if !object.keys().any(is_ours) {
                return None;
            }
            object
                .iter()
                .filter(|(k, _)| !is_foreign(k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        }
    };
    Some(Layer {
        origin: Origin::Editor,
        values: ours,
    })
}

/// Keys that clients of another completion server send beside the settings.
fn is_foreign(key: &str) -> bool {
    matches!(
        key,
        "editorInfo"
            | "editorPluginInfo"
            | "relatedPluginInfo"
            | "copilotIntegrationId"
            | "copilotCapabilities"
            | "githubAppId"
    )
}

fn read_file(path: &Path, origin: Origin) -> (Option<Layer>, Option<Problem>) {
    let problem = |message: String| {
        Some(Problem {
            origin: origin.clone(),
            message,
        })
    };
    let text = match read_text(path) {
        Ok(Ok(text)) => text,
        Ok(Err(why)) => return (None, problem(why)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(why) => return (None, problem(format!("cannot be read: {why}"))),
    };
    match toml::from_str::<Map<String, Value>>(&text) {
        Ok(values) => (Some(Layer { origin, values }), None),
        Err(why) => {
            // The line itself stays out: it can hold a key, and this goes to the log.
            let line = why.span().map_or(String::new(), |span| {
                let n_before = text.as_bytes()[..span.start.min(text.len())]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count();
                format!(" in line {}", n_before + 1)
            });
            let why = why.message();
            (
                None,
                problem(format!("is not valid TOML{line} and is ignored: {why}")),
            )
        }
    }
}

/// Reads a settings file; the inner error says why it is none. What is opened is looked at, not
/// the path: a repository may hold a link to a device or a pipe, which never end.
fn read_text(path: &Path) -> io::Result<Result<String, String>> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Err("is not a regular file and is ignored".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let why = format!("is larger than {MAX_FILE} bytes and is ignored");
        return Ok(Err(why));
    }
    Ok(String::from_utf8(bytes).map_err(|_| "is not UTF-8 and is ignored".to_owned()))
}
