//! `tests`: the project's own tests, found by the files it has.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::desk::Desk;
use crate::edit::path::RepoPath;
use crate::edit::tree::{Entry, Tree};

pub(in crate::agent) const NAME: &str = "tests";
pub(in crate::agent) const ABOUT: &str = "Runs the project's tests in the sandbox, with the changes of this task. The command is found by the project's files; filter narrows it to tests or files of that name.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// Name of a test or file; all tests when not given.
    #[serde(default)]
    pub(in crate::agent) filter: Option<String>,
}

/// Finds the command that runs a project's tests.
///
/// # Errors
/// When there is no sign of any, or the filter is not a plain name.
pub(in crate::agent) fn command(desk: &Desk, arguments: &Arguments) -> Result<String, String> {
    let read = |name: &str| -> Option<String> {
        let path = RepoPath::parse(name).ok()?;
        match desk.view().read(&path) {
            Ok(Some(Entry::File { bytes, .. })) => {
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            Ok(Some(Entry::Directory)) => Some(String::new()),
            Ok(None) | Err(_) => None,
        }
    };
    let filter = match arguments.filter.as_deref().map(str::trim) {
        None | Some("") => String::new(),
        Some(filter) => {
            let quoted = shlex::try_quote(filter).map_err(|why| why.to_string())?;
            if filter.starts_with('-') {
                return Err("the filter is the name of a test or file, not an option".into());
            }
            format!(" {quoted}")
        }
    };
    let has_script = |json: &str| {
        serde_json::from_str::<serde_json::Value>(json)
            .is_ok_and(|v| v["scripts"]["test"].is_string())
    };
    let has_target = |makefile: &str| makefile.lines().any(|l| l.starts_with("test:"));
    if read("Cargo.toml").is_some() {
        return Ok(format!("cargo test --offline{filter}"));
    }
    if read("go.mod").is_some() {
        return Ok(match filter.is_empty() {
            true => "go test ./...".into(),
            false => format!("go test ./... -run{filter}"),
        });
    }
    if read("package.json").is_some_and(|json| has_script(&json)) {
        return Ok(match filter.is_empty() {
            true => "npm test".into(),
            false => format!("npm test --{filter}"),
        });
    }
    let has_pytest = ["pytest.ini", "conftest.py", "tests/conftest.py"]
        .iter()
        .any(|name| read(name).is_some())
        || ["pyproject.toml", "setup.cfg", "tox.ini"]
            .iter()
            .any(|name| read(name).is_some_and(|text| text.contains("pytest")));
    if has_pytest {
        return Ok(match filter.is_empty() {
            true => "python3 -m pytest -q".into(),
            false => format!("python3 -m pytest -q -k{filter}"),
        });
    }
    let is_python_test = |path: &RepoPath| {
        let name = path.file_name();
        name.starts_with("test_") && name.ends_with(".py")
    };
    if desk.files(None)?.iter().any(is_python_test) {
        return Ok(match filter.is_empty() {
            true => "python3 -m unittest".into(),
            false => format!("python3 -m unittest -k{filter}"),
        });
    }
    if read("Makefile").is_some_and(|text| has_target(&text)) {
        return Ok("make test".into());
    }
    Err("no tests were found; use run with the project's own command".into())
}
