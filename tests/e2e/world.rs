//! A user's machine in miniature: an empty home directory, a workspace, and the real program.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pairwright::driver::{Answer, Client, PATIENCE};
use pairwright::session::document::uri_of;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A line as it is being typed, where its end is, and the whole of it as [`World::knowing`] has it
/// many times.
pub(crate) const TYPED: &str = "    result = multiply(";
pub(crate) const END: (u32, u32) = (0, TYPED.len() as u32);
pub(crate) const WHOLE: &str = "    result = multiply(PI, square(radius))";

/// The same of a line that [`World::knowing`] does not have.
pub(crate) const TYPED_ELSEWHERE: &str = "    volume = extrude(";
const WHOLE_ELSEWHERE: &str = "    volume = extrude(DEPTH, cube(radius))";

pub(crate) struct World {
    dir: TempDir,
    variables: Vec<(String, String)>,
    /// A program and its arguments that start what comes after them; none where it is empty.
    behind: Vec<String>,
}

impl World {
    /// A home with nothing in it and a workspace with `files`: paths and contents.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self {
            dir,
            variables: Vec::new(),
            behind: Vec::new(),
        };
        fs::create_dir(world.home()).unwrap();
        fs::create_dir(world.root()).unwrap();
        for (path, text) in files {
            world.write(path, text);
        }
        world
    }

    /// A workspace of which the embedded engine can learn how [`TYPED`] goes on.
    pub(crate) fn knowing() -> Self {
        let shape =
            |name: &str| format!("def area_of_{name}(radius):\n{WHOLE}\n    return result\n\n\n");
        let shapes = |names: [&str; 9]| names.map(shape).concat();
        let round = [
            "circle", "sphere", "cone", "torus", "dome", "dish", "drum", "disc", "arc",
        ];
        let flat = [
            "square", "kite", "sector", "segment", "lens", "ring", "star", "leaf", "oval",
        ];
        Self::new(&[("round.py", &shapes(round)), ("flat.py", &shapes(flat))])
    }

    /// Writes, as another program does, a file of which can be learnt how [`TYPED_ELSEWHERE`] goes on.
    pub(crate) fn write_elsewhere(&self) {
        let shape = |name: &str| {
            format!("def volume_of_{name}(radius):\n{WHOLE_ELSEWHERE}\n    return volume\n\n\n")
        };
        let names = [
            "ball", "barrel", "bowl", "bell", "bead", "bolt", "brick", "bulb", "buoy",
        ];
        self.write("solid.py", &names.map(shape).concat());
    }

    /// Sets an environment variable for every program started.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has every program started where nobody can make namespaces. `None` where that cannot be had.
    pub(crate) fn without_namespaces(self) -> Option<Self> {
        self.after("echo 0 > /proc/sys/user/max_user_namespaces")
    }

    /// Has every program started where a file system is mounted on a directory. `None` where that cannot
    /// be had.
    pub(crate) fn with_mount_on(self, directory: &Path) -> Option<Self> {
        self.after(&format!("mount -t tmpfs none '{}'", directory.display()))
    }

    /// Has every program started in a namespace of its own after a line of a shell.
    fn after(mut self, line: &str) -> Option<Self> {
        let line = format!("{line} && exec \"$0\" \"$@\"");
        let behind = ["unshare", "-U", "-r", "-m", "--", "/bin/sh", "-c", &line];
        self.behind = behind.map(str::to_owned).into();
        let said = self.command(&["--version"]).output().ok()?;
        if said.status.success() {
            return Some(self);
        }
        let told = String::from_utf8_lossy(&said.stderr);
        assert!(std::env::var_os("CI").is_none(), "{told}");
        eprintln!("not tested: {told}");
        None
    }

    /// As a user has it who said once that the workspace is trusted.
    pub(crate) fn trusted(self) -> Self {
        let root = self.root().canonicalize().unwrap();
        let words = json!({ "folders": { root.to_str().unwrap(): "trusted" } });
        write(&self.trust_file(), &words.to_string());
        self
    }

    pub(crate) fn trust_file(&self) -> PathBuf {
        self.home().join(".local/state/pairwright/trust.json")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The workspace folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    pub(crate) fn user_file(&self) -> PathBuf {
        self.home().join(".config/pairwright/config.toml")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.home().join(".local/state/pairwright/pairwright.log")
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        uri_of(&self.root().join(path))
    }

    /// Writes a file of the workspace.
    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.root().join(path), text);
    }

    /// Writes the user's settings.
    pub(crate) fn write_settings(&self, toml: &str) {
        write(&self.user_file(), toml);
    }

    /// The program with nothing of the real user's environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        #[expect(
            clippy::disallowed_methods,
            reason = "the program under test, started as an editor starts it"
        )]
        let mut command = match self.behind.split_first() {
            None => Command::new(env!("CARGO_BIN_EXE_pairwright")),
            Some((program, before)) => {
                let mut command = Command::new(program);
                command.args(before).arg(env!("CARGO_BIN_EXE_pairwright"));
                command
            }
        };
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            // Tasks would try gVisor before they run a command, each in a home that does not know yet
            // whether it is fit.
            .env("PAIRWRIGHT_SANDBOX_RUNSC", "/nowhere/runsc")
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .current_dir(self.root());
        command
    }

    /// Starts the server, not initialized yet.
    pub(crate) fn server(&self) -> Client {
        Client::start(self.command(&["lsp"])).unwrap()
    }

    /// Starts the server and opens a session on the workspace.
    pub(crate) fn session(&self) -> Client {
        let mut client = self.server();
        client.initialize(&self.root()).unwrap().result.unwrap();
        client
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What an editor does with documents, on top of plain messages.
pub(crate) trait Edits {
    fn open(&mut self, uri: &str, language: &str, text: &str);
    /// Replaces the whole text.
    fn replace(&mut self, uri: &str, version: i32, text: &str);
    /// Types `text` at a place (zero-based line, UTF-16 column).
    fn type_at(&mut self, uri: &str, version: i32, at: (u32, u32), text: &str);
    fn ask_inline(&mut self, uri: &str, at: (u32, u32)) -> i64;
    /// Asks and waits.
    fn inline(&mut self, uri: &str, at: (u32, u32)) -> Answer;
    /// Waits until the embedded engine has learnt what there is.
    fn learnt(&mut self);
}

impl Edits for Client {
    fn open(&mut self, uri: &str, language: &str, text: &str) {
        let document = json!({ "uri": uri, "languageId": language, "version": 1, "text": text });
        self.notify("textDocument/didOpen", &json!({ "textDocument": document }))
            .unwrap();
    }

    fn replace(&mut self, uri: &str, version: i32, text: &str) {
        change(self, uri, version, &json!({ "text": text }));
    }

    fn type_at(&mut self, uri: &str, version: i32, (line, character): (u32, u32), text: &str) {
        let at = json!({ "line": line, "character": character });
        let range = json!({ "start": at, "end": at });
        change(self, uri, version, &json!({ "range": range, "text": text }));
    }

    fn ask_inline(&mut self, uri: &str, at: (u32, u32)) -> i64 {
        self.ask("textDocument/inlineCompletion", &inline_params(uri, at))
            .unwrap()
    }

    fn inline(&mut self, uri: &str, at: (u32, u32)) -> Answer {
        let id = self.ask_inline(uri, at);
        self.answer(id).unwrap()
    }

    fn learnt(&mut self) {
        let deadline = Instant::now() + PATIENCE + Duration::from_secs(30);
        self.wait_for("didChangeStatus", |s| s["busy"] == false, deadline)
            .unwrap();
    }
}

fn change(client: &mut Client, uri: &str, version: i32, change: &Value) {
    let document = json!({ "uri": uri, "version": version });
    let params = json!({ "textDocument": document, "contentChanges": [change] });
    client.notify("textDocument/didChange", &params).unwrap();
}

/// Parameters of an automatic request for ghost text.
pub(crate) fn inline_params(uri: &str, (line, character): (u32, u32)) -> Value {
    json!({
        "textDocument": { "uri": uri },
        "position": { "line": line, "character": character },
        "context": { "triggerKind": 2 },
    })
}

/// The text of the first suggestion of an answer.
pub(crate) fn suggested(answer: &Answer) -> Option<&str> {
    answer.result.as_ref().unwrap()["items"][0]["insertText"].as_str()
}
