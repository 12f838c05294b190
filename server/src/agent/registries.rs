//! Hosts of package registries, as this machine's own package managers have them.
//!
//! No registry's name stands in this program: a language of the folder is known by its manifest,
//! and its package manager is asked, or its files in the home directory read, which registry it
//! uses. The folder's own settings of package managers are not read: whoever wrote them could open
//! any host. Known are cargo, npm, pip and go.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::program::Run;

/// Package managers are slow to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes read of an answer or a file.
const ANSWER: usize = 16 << 10;

const LANGUAGES: [(Manager, &[&str]); 4] = [
    (Manager::Cargo, &["Cargo.toml"]),
    (Manager::Npm, &["package.json"]),
    (
        Manager::Pip,
        &["pyproject.toml", "requirements.txt", "setup.py"],
    ),
    (Manager::Go, &["go.mod"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Cargo,
    Npm,
    Pip,
    Go,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// As network rules.
    pub hosts: BTreeSet<String>,
    /// Package managers that did not tell.
    pub silent: Vec<&'static str>,
}

/// Finds the registries of the languages whose manifests lie in `root`. Takes as long as the
/// package managers do, a second or so.
pub async fn of(root: &Path) -> Registries {
    let own = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let usual = || Some(std::env::home_dir()?.join(".cargo"));
    let cargo_home = own.or_else(usual);
    let mut found = Registries::default();
    for (manager, manifests) in LANGUAGES {
        if !manifests.iter().any(|name| root.join(name).is_file()) {
            continue;
        }
        let hosts = match manager {
            Manager::Cargo => cargo_home.as_deref().map(cargo).unwrap_or_default(),
            Manager::Npm => urls(&ask("npm", &["config", "get", "registry"]).await),
            Manager::Pip => pip().await,
            Manager::Go => go(&ask("go", &["env", "GOPROXY", "GOSUMDB"]).await),
        };
        if hosts.is_empty() {
            found.silent.push(manager.name());
        }
        found.hosts.extend(hosts);
    }
    found
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Go => "go",
        }
    }
}

/// Of cargo: the indexes it has used, and where these say that packages are.
fn cargo(home: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Index {
        dl: String,
        api: Option<String>,
    }
    let Ok(indexes) = fs::read_dir(home.join("registry/index")) else {
        return Vec::new();
    };
    let mut hosts = Vec::new();
    for index in indexes.flatten() {
        let name = index.file_name();
        let host = name.to_str().and_then(|name| name.rsplit_once('-'));
        hosts.extend(host.and_then(|(host, _)| rule(&format!("https://{host}/"))));
        let config = fs::read_to_string(index.path().join("config.json"));
        let config = config.ok().filter(|text| text.len() <= ANSWER);
        let config = config.and_then(|text| serde_json::from_str::<Index>(&text).ok());
        if let Some(Index { dl, api }) = config {
            hosts.extend(
                [Some(dl), api]
                    .into_iter()
                    .flatten()
                    .filter_map(|u| rule(&u)),
            );
        }
    }
    hosts
}

/// Of pip: what is set, else what it was made with.
async fn pip() -> Vec<String> {
    const OWN: &str = "from pip._internal.models.index import PyPI\n\
                       print(PyPI.url, 'https://' + PyPI.file_storage_domain)";
    let set = ask(
        "python3",
        &["-I", "-m", "pip", "config", "get", "global.index-url"],
    )
    .await;
    match urls(&set) {
        set if !set.is_empty() => set,
        _ => urls(&ask("python3", &["-I", "-c", OWN]).await),
    }
}

/// Of go: the proxies, and the names of checksum databases, which are hosts.
fn go(said: &str) -> Vec<String> {
    let mut lines = said.lines();
    let proxies = lines.next().unwrap_or_default().replace([',', '|'], " ");
    let database = lines.next().and_then(|line| line.split([' ', '+']).next());
    let database = database.filter(|name| name.contains('.'));
    let database = database.and_then(|name| rule(&format!("https://{name}/")));
    urls(&proxies).into_iter().chain(database).collect()
}

/// The hosts of all addresses in a text.
fn urls(said: &str) -> Vec<String> {
    said.split_whitespace().filter_map(rule).collect()
}

/// The network rule for an address.
fn rule(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    matches!(url.scheme(), "http" | "https").then(|| match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// What a program of this machine says; nothing when it fails. It runs outside every workspace,
/// whose settings it would read.
async fn ask(program: &str, arguments: &[&str]) -> String {
    let argv: Vec<String> = iter::once(&program)
        .chain(arguments)
        .map(|&part| part.to_owned())
        .collect();
    let run = Run {
        argv: &argv,
        folder: Some(Path::new("/")),
        variables: &[],
        input: &[],
        most: ANSWER,
        patience: PATIENCE,
    };
    let said = run.said().await.ok();
    let good = said.filter(|said| said.status.is_some_and(|status| status.success()));
    good.and_then(|said| String::from_utf8(said.output).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_package_managers_say_becomes_hosts() {
        assert_eq!(urls("https://packages.test/\n"), ["packages.test"]);
        assert_eq!(urls("http://mirror.test:8081/npm/"), ["mirror.test:8081"]);
        assert_eq!(urls("undefined\n"), [""; 0]);
        let said =
            "https://modules.test,https://second.test|direct\nsums.test+ab12 https://x.test\n";
        assert_eq!(go(said), ["modules.test", "second.test", "sums.test"]);
        assert_eq!(go("off\noff\n"), [""; 0]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_package_manager_that_says_too_much_or_fails_says_nothing() {
        let said = async |line: &str| ask("sh", &["-c", line]).await;
        assert_eq!(
            said("echo https://packages.test").await,
            "https://packages.test\n"
        );
        let most = format!("head -c {ANSWER} /dev/zero");
        assert_eq!(said(&most).await.len(), ANSWER);
        assert_eq!(said(&format!("{most}; echo")).await, "");
        // Never ends, and would fill the memory until it is given up.
        assert_eq!(said("exec cat /dev/zero").await, "");
        assert_eq!(said("echo https://packages.test; exit 1").await, "");
    }

    #[test]
    fn cargo_is_known_by_the_indexes_it_has_used() {
        let home = tempfile::tempdir().unwrap();
        let index = home
            .path()
            .join("registry/index/index.test-1949cf8c6b5b557f");
        fs::create_dir_all(&index).unwrap();
        let config = r#"{"dl": "https://files.test/{crate}/{version}", "api": "https://api.test"}"#;
        fs::write(index.join("config.json"), config).unwrap();
        let expected = ["index.test", "files.test", "api.test"];
        assert_eq!(cargo(home.path()), expected);
    }
}
