//! A service of its own for each test, and a workspace to show inside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_client::changes::{self, Bounds, Changes};
use sandbox_client::client::{Client, Command, Finished, Sandbox, Stdin};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{Create, LocalCreate};
use sandbox_client::service::{
    Agent, EgressOptions, Host, Key, Limits, Machines, Options, Service, Workspaces,
};
use sandbox_client::tier::Tier;

pub(crate) fn options() -> Options {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Options {
        agent: Agent {
            program: env!("CARGO_BIN_EXE_sandbox-agent").into(),
            arguments: vec![sandbox_agent::ARGUMENT.into()],
        },
        key: Key::generate().unwrap(),
        host: Host::find(home.as_deref(), Some(OsStr::new("/usr/bin"))),
        machines: Machines::default(),
        workspaces: Workspaces::OfThisMachine,
        min_isolation: Tier::Namespace,
        limits: Limits::default(),
        egress: EgressOptions::default(),
        state: None,
        sandboxes: 64,
        ready: 0,
    }
}

pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) client: Client,
    workspace: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        let service = Service::start_private(options).unwrap();
        let client = Client::new(service.endpoint().clone()).unwrap();
        let workspace = tempfile::tempdir().unwrap();
        Self {
            service,
            client,
            workspace,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.workspace.path().canonicalize().unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A sandbox that sees the workspace.
    pub(crate) async fn sandbox(&self) -> Sandbox {
        let local = LocalCreate {
            workspace: Some(self.root()),
            ..LocalCreate::default()
        };
        self.client.create(asking(local)).await.unwrap()
    }

    pub(crate) async fn changes(&self, sandbox: &Sandbox) -> Changes {
        changes::collect(sandbox, &self.root(), Bounds::default())
            .await
            .unwrap()
    }
}

pub(crate) fn asking(local: LocalCreate) -> Create {
    Create {
        template_id: "base".to_owned(),
        timeout: Some(300),
        pairwright: Some(local),
        ..Create::default()
    }
}

pub(crate) fn shell(script: &str) -> Command {
    Command {
        program: "/bin/sh".to_owned(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        directory: None,
        env: BTreeMap::new(),
        input: Stdin::Nothing,
        timeout: Duration::from_secs(30),
    }
}

pub(crate) async fn run(sandbox: &Sandbox, script: &str) -> Finished {
    sandbox.run(shell(script), Cap(64 << 10)).await.unwrap()
}

/// How a command ended and what it wrote, as text.
pub(crate) fn told(finished: &Finished) -> String {
    format!(
        "{:?}\n{}{}",
        finished.end,
        finished.stdout.text(),
        finished.stderr.text()
    )
}

/// Every file of a directory with its contents.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut level = vec![root.to_owned()];
    while let Some(directory) = level.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                level.push(path);
            } else {
                let contents = fs::read(&path).unwrap();
                files.insert(path, contents);
            }
        }
    }
    files
}
