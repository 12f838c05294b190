//! Commands that mean harm, from `tests/cases/redteam`, and traps outside that must not spring.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox_client::client::{Address, Client, Sandbox};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{LimitsAsked, LocalCreate};
use sandbox_client::service::{Caps, Host, Options};
use sandbox_client::tier::Tier;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::egress::{Outside, denials};
use crate::gvisor::with_gvisor;
use crate::landlock;
use crate::machine::with_machines;
use crate::returned::list;
use crate::world::{World, asking, options, run, shell, told, tree};

#[derive(Debug, Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    run: String,
    #[serde(default)]
    expect: Vec<String>,
    #[serde(default)]
    never: Vec<String>,
    /// The denials that are told of, each a reason and a target. None where nothing is asked of the
    /// proxy: what the kernel refuses it refuses silently.
    #[serde(default)]
    event: Vec<String>,
    /// Until it is killed, where that is the claim.
    seconds: Option<u64>,
    /// Where it is played; everywhere where nothing is said.
    #[serde(default)]
    tier: Vec<Tier>,
    /// What is said under gVisor's kernel, in place of `expect`.
    gvisor: Option<Vec<String>>,
}

fn is_played(tiers: &[Tier], on: Tier) -> bool {
    tiers.is_empty() || tiers.contains(&on)
}

fn table<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/redteam");
    let table = fs::read_to_string(path.join(name)).unwrap();
    toml::from_str(&table).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// A service that can make sandboxes of a tier, if this machine can be tested with it.
fn options_for(tier: Tier) -> Option<Options> {
    match tier {
        Tier::Landlock => Some(landlock::accepting()),
        Tier::Namespace | Tier::Remote => Some(options()),
        // Its file system is one, so that looking for files would go through the toolchains too.
        Tier::Gvisor => with_gvisor().map(|options| Options {
            host: Host::find(None, None),
            ..options
        }),
        Tier::VmEmulated | Tier::Vm => with_machines(),
    }
}

/// Runs every case of a table in one sandbox, so that each also shows that it survived the last.
async fn check(name: &str, tier: Tier, limits: LimitsAsked) {
    let table: Table = table(name);
    let Some(mut options) = options_for(tier) else {
        return;
    };
    options.limits.processes = 128;
    let world = World::with(options);
    world.write("victim.txt", "whole");
    let secret = format!("secret{}", world.root().display()).replace('/', "");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), &secret).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let abstract_address = SocketAddr::from_abstract_name(&secret).unwrap();
    let abstract_listener = UnixListener::bind_addr(&abstract_address).unwrap();
    abstract_listener.set_nonblocking(true).unwrap();
    let before = tree(&world.root());

    let local = LocalCreate {
        workspace: Some(world.root()),
        tier: Some(tier),
        min_isolation: Some(tier),
        limits: Some(limits),
        ..LocalCreate::default()
    };
    let sandbox = world.client.create(asking(local)).await.unwrap();
    let filled = |text: &str| {
        text.replace("HOST_SECRET", &secret)
            .replace("HOST_SOCKET", &secret)
            .replace("HOST_PORT", &port)
    };
    play(&sandbox, &table, filled).await;
    assert_eq!(tree(&world.root()), before, "the workspace was written");
    assert!(listener.accept().is_err(), "something connected");
    assert!(abstract_listener.accept().is_err(), "something connected");
}

/// Runs every case and compares what it says and what is told of it.
async fn play(sandbox: &Sandbox, table: &Table, filled: impl Fn(&str) -> String) {
    play_in(sandbox, None, table, filled).await;
}

/// The same in a directory of the sandbox.
async fn play_in(
    sandbox: &Sandbox,
    directory: Option<&str>,
    table: &Table,
    filled: impl Fn(&str) -> String,
) {
    let mut failed = String::new();
    let mut n_denials = 0;
    let cases = table.case.iter();
    for case in cases.filter(|case| is_played(&case.tier, sandbox.tier())) {
        let name = &case.name;
        let mut command = shell(&filled(&case.run));
        command.program = "/bin/bash".to_owned();
        command.directory = directory.map(str::to_owned);
        let patience = match sandbox.tier() {
            Tier::VmEmulated => 40,
            Tier::Gvisor => 20,
            Tier::Landlock | Tier::Namespace | Tier::Vm | Tier::Remote => 10,
        };
        command.timeout = Duration::from_secs(case.seconds.unwrap_or(patience));
        let finished = sandbox.run(command, Cap(16 << 10)).await;
        let finished = finished.unwrap_or_else(|why| panic!("{name}: {why}"));
        let told = told(&finished);
        let expected = match (&case.gvisor, sandbox.tier()) {
            (Some(expected), Tier::Gvisor) => expected,
            _ => &case.expect,
        };
        for text in expected.iter().map(|text| filled(text)) {
            if !told.contains(&text) {
                failed += &format!("{name}: no {text:?} in {told:?}\n");
            }
        }
        for text in case.never.iter().map(|text| filled(text)) {
            if told.contains(&text) {
                failed += &format!("{name}: {text:?} in {told:?}\n");
            }
        }
        let denials = denials(sandbox, n_denials).await;
        n_denials += denials.len() as u64;
        let expected: Vec<String> = case.event.iter().map(|line| filled(line)).collect();
        if denials != expected {
            failed += &format!("{name}: denials {denials:?} instead of {expected:?}\n");
        }
        let after = run(sandbox, "echo usable; cat /proc/[0-9]*/comm | wc -l").await;
        if !after.stdout.text().starts_with("usable\n") {
            let told = self::told(&after);
            failed += &format!("{name}: the sandbox is not usable: {told}\n");
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[tokio::test]
async fn nothing_of_the_machine_is_seen_or_touched() {
    check("escape.toml", Tier::Namespace, LimitsAsked::default()).await;
}

#[tokio::test]
async fn nothing_is_reached() {
    check("network.toml", Tier::Namespace, LimitsAsked::default()).await;
}

#[tokio::test]
async fn nothing_is_used_up() {
    let limits = LimitsAsked {
        memory_bytes: Some(256 << 20),
        disk_bytes: Some(64 << 20),
        ..LimitsAsked::default()
    };
    check("resources.toml", Tier::Namespace, limits).await;
}

#[tokio::test]
async fn nothing_is_typed() {
    check("terminal.toml", Tier::Namespace, LimitsAsked::default()).await;
}

/// What a command leaves in the workspace, which must not come back as it is.
#[derive(Debug, Deserialize)]
struct Poison {
    /// Beside `outside`, which is a directory of the machine with a file `secret`; `LINK_OUT` is a
    /// link to it.
    workspace: BTreeMap<String, String>,
    case: Vec<Left>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    name: String,
    run: String,
    /// All that comes back, and all that is refused.
    expect: Vec<String>,
    #[serde(default)]
    tier: Vec<Tier>,
    /// The same of a copy without namespaces around it.
    landlock: Option<Vec<String>>,
}

async fn check_poison(tier: Tier) {
    let poison: Poison = table("returned.toml");
    let Some(options) = options_for(tier) else {
        return;
    };
    let world = World::with(options);
    for (path, text) in &poison.workspace {
        world.write(path, text);
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "hush").unwrap();
    symlink(outside.path(), world.root().join("LINK_OUT")).unwrap();
    let before = (tree(&world.root()), tree(outside.path()));
    let mut failed = String::new();
    let cases = poison.case.iter();
    for case in cases.filter(|case| is_played(&case.tier, tier)) {
        let local = LocalCreate {
            workspace: Some(world.root()),
            tier: Some(tier),
            min_isolation: Some(tier),
            ..LocalCreate::default()
        };
        let (sandbox, copied) = match tier {
            Tier::Landlock => {
                let (sandbox, copied) = landlock::create(&world, local).await;
                (sandbox, Some(copied))
            }
            _ => (world.client.create(asking(local)).await.unwrap(), None),
        };
        let mut command = shell(&case.run);
        command.program = "/bin/bash".to_owned();
        command.directory = copied.as_ref().map(|copied| copied.directory().to_owned());
        let finished = sandbox.run(command, Cap(16 << 10)).await.unwrap();
        let (changes, expected) = match &copied {
            Some(copied) => (
                landlock::changes_of(&world, &sandbox, copied).await,
                case.landlock.as_ref().unwrap_or(&case.expect),
            ),
            None => (world.changes(&sandbox).await, &case.expect),
        };
        let changes = list(&changes);
        let changes: Vec<&str> = changes.lines().collect();
        if changes != *expected {
            let (name, told) = (&case.name, told(&finished));
            failed += &format!("{name}: {changes:#?} instead of {expected:#?}; {told}\n");
        }
        sandbox.kill().await.unwrap();
    }
    assert!(failed.is_empty(), "{failed}");
    let after = (tree(&world.root()), tree(outside.path()));
    assert_eq!(after, before, "it was written");
}

#[tokio::test]
async fn nothing_comes_back_that_leads_out_or_runs_unseen() {
    check_poison(Tier::Namespace).await;
}

/// Requests to the service as someone sends them who has a key or a token, and not the right one.
#[derive(Debug, Deserialize)]
struct Requests {
    case: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: String,
    /// The first line and headers, where `KEY`, `ID`, `TOKEN`, `OTHER_ID` and `OTHER_TOKEN` stand
    /// for what they are of two sandboxes.
    request: String,
    #[serde(default)]
    body: String,
    status: u16,
    #[serde(default)]
    never: Vec<String>,
}

fn ask(socket: &Path, asked: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let head = asked.trim().replace('\n', "\r\n");
    let request = format!(
        "{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // Who is refused early is not listened to.
    let _ = stream.write_all(request.as_bytes());
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_by_another_name_what_is_not_theirs() {
    let requests: Requests = table("control.toml");
    let world = World::new();
    world.write("own", "hush");
    let (one, other) = (world.sandbox().await, world.sandbox().await);
    run(&one, "echo of-one > /tmp/note").await;
    let Address::Unix(socket) = &world.service.endpoint().address else {
        panic!("it is a private service");
    };
    let key = world.service.endpoint().key.clone();
    let token = |id: &str| {
        let request = format!("POST /sandboxes/{id}/connect HTTP/1.1\nhost: x\nx-api-key: {key}");
        let said = ask(socket, &request, "{}");
        let (_, rest) = said.split_once("\"envdAccessToken\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let filled = [
        ("OTHER_ID", other.id().to_owned()),
        ("OTHER_TOKEN", token(other.id())),
        ("TOKEN", token(one.id())),
        ("ID", one.id().to_owned()),
        ("KEY", key.clone()),
    ];
    let fill = |text: &str| {
        let fill = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        filled.iter().fold(text.to_owned(), fill)
    };
    let mut failed = String::new();
    for case in &requests.case {
        let said = ask(socket, &fill(&case.request), &fill(&case.body));
        let status = said
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse::<u16>().ok());
        let told = case.never.iter().map(|text| fill(text));
        let told: Vec<String> = told.filter(|text| said.contains(text)).collect();
        if status != Some(case.status) || !told.is_empty() {
            let name = &case.name;
            failed += &format!("{name}: not {}, or {told:?} in {said}\n", case.status);
        }
    }
    assert!(failed.is_empty(), "{failed}");
    // All of that has changed nothing.
    let client: &Client = &world.client;
    assert_eq!(client.list().await.unwrap().len(), 2);
    assert_eq!(run(&one, "cat /tmp/note").await.stdout.text(), "of-one\n");
    let network = run(&other, "ls /tmp; python3 -c \"import socket; socket.create_connection(('127.0.0.1',3128))\" && echo proxy").await;
    assert_eq!(network.stdout.text(), "proxy\n");
    assert!(one.denials(0, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_key_keeps_the_others_out() {
    /// More than a service has places for.
    const SILENT: usize = 1_100;
    let files = getrlimit(Resource::Nofile);
    let enough = Rlimit {
        current: files.maximum,
        ..files
    };
    setrlimit(Resource::Nofile, enough).unwrap();
    let world = World::new();
    let Address::Unix(socket) = &world.service.endpoint().address else {
        panic!("it is a private service");
    };
    let one = world.sandbox().await;
    let mut silent = Vec::new();
    for n in 0..SILENT {
        let mut stream = UnixStream::connect(socket).unwrap();
        // Half of them begin to say something.
        if n % 2 == 0 {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\n").unwrap();
        }
        silent.push(stream);
    }
    let socket = socket.clone();
    let asked =
        tokio::task::spawn_blocking(move || ask(&socket, "GET /health HTTP/1.1\nhost: x", ""));
    let said = tokio::time::timeout(Duration::from_secs(10), asked).await;
    let said = said.expect("an answer in time").unwrap();
    assert!(said.starts_with("HTTP/1.1 204 "), "{said}");
    // Who was there with a key before is there still.
    assert_eq!(run(&one, "echo here").await.stdout.text(), "here\n");
    drop(silent);
}

/// Limits of sandboxes with a kernel of their own.
const SOME: LimitsAsked = LimitsAsked {
    memory_bytes: Some(512 << 20),
    disk_bytes: Some(64 << 20),
    processors: None,
    command_seconds: None,
};

/// The tables that hold of every tier with a kernel of its own.
macro_rules! tables_of {
    ($tier:expr) => {
        #[tokio::test]
        async fn nothing_of_the_machine_is_seen_or_touched() {
            check("escape.toml", $tier, SOME).await;
        }

        #[tokio::test]
        async fn nothing_is_reached() {
            check("network.toml", $tier, SOME).await;
        }

        #[tokio::test]
        async fn nothing_is_used_up() {
            check("resources.toml", $tier, SOME).await;
        }

        #[tokio::test]
        async fn nothing_is_typed() {
            check("terminal.toml", $tier, SOME).await;
        }

        #[tokio::test]
        async fn nothing_comes_back_that_leads_out_or_runs_unseen() {
            check_poison($tier).await;
        }
    };
}

/// The same under gVisor's kernel, whose words for some refusals are its own.
mod under_gvisor {
    use super::*;

    tables_of!(Tier::Gvisor);

    /// Through a socket, as gVisor's network is one that nothing outside can accept on.
    #[tokio::test]
    async fn nothing_is_reached_through_the_proxy_but_what_is_allowed() {
        if let Some(options) = with_gvisor() {
            check_egress(Tier::Gvisor, options, Duration::from_secs(1)).await;
        }
    }
}

/// Without namespaces, where each wall is another.
mod restricted {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    use super::*;

    #[tokio::test]
    async fn nothing_of_the_machine_is_read_written_signalled_or_reached() {
        if !landlock::is_here().await {
            return;
        }
        let mut options = landlock::accepting();
        options.limits.processes = 128;
        let world = World::with(options);
        world.write("victim.txt", "whole");
        world.write(".env", "TOKEN=hush");
        let outside = tempfile::tempdir().unwrap();
        let (at, root) = (outside.path().display().to_string(), world.root());
        let secret = format!("secret{at}").replace('/', "");
        let file = outside.path().join("secret");
        fs::write(&file, &secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let socket = UnixListener::bind(outside.path().join("socket")).unwrap();
        let address = SocketAddr::from_abstract_name(&secret).unwrap();
        let hidden = UnixListener::bind_addr(&address).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for socket in [&socket, &hidden] {
            socket.set_nonblocking(true).unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        #[expect(
            clippy::disallowed_methods,
            reason = "a process outside that must not be reached"
        )]
        let mut victim = std::process::Command::new("sleep");
        let mut victim = victim.arg("600").process_group(0).spawn().unwrap();
        let about = |path: &Path| {
            let found = path.metadata().unwrap();
            (
                found.mode(),
                found.mtime_nsec(),
                found.ctime_nsec(),
                found.uid(),
            )
        };
        let look = || {
            (
                tree(&root),
                tree_of(outside.path()),
                about(&file),
                about(outside.path()),
            )
        };
        let before = look();

        let local = LocalCreate {
            limits: Some(LimitsAsked {
                memory_bytes: Some(256 << 20),
                disk_bytes: Some(64 << 20),
                ..LimitsAsked::default()
            }),
            ..landlock::restricted(&world)
        };
        let (sandbox, copied) = landlock::create(&world, local).await;
        let filled = |text: &str| {
            text.replace("OUTSIDE", &at)
                .replace("WORKSPACE", &root.display().to_string())
                .replace("VICTIM", &victim.id().to_string())
                .replace("HOST_SECRET", &secret)
                .replace("HOST_SOCKET", &secret)
                .replace("HOST_PORT", &port)
        };
        let table: Table = table("restricted.toml");
        play_in(&sandbox, Some(copied.directory()), &table, filled).await;
        assert_eq!(look(), before, "something outside was written");
        assert!(listener.accept().is_err(), "something connected");
        assert!(socket.accept().is_err(), "something connected");
        assert!(hidden.accept().is_err(), "something connected");
        assert_eq!(victim.try_wait().unwrap(), None, "it was killed");
        let _ = victim.kill();
        let _ = victim.wait();
    }

    /// The files of a directory that can be read, sockets left out.
    fn tree_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read(entry.path()).unwrap_or_default())
            })
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn nothing_comes_back_that_leads_out_or_runs_unseen() {
        if landlock::is_here().await {
            check_poison(Tier::Landlock).await;
        }
    }
}

/// The same in emulated machines, whose kernels are their own.
#[cfg(target_arch = "x86_64")]
mod in_a_machine {
    use super::*;

    tables_of!(Tier::VmEmulated);

    /// Through the port of a machine, which has no network device.
    #[tokio::test]
    async fn nothing_is_reached_through_the_proxy_but_what_is_allowed() {
        let Some(options) = with_machines() else {
            return;
        };
        check_egress(Tier::VmEmulated, options, Duration::from_secs(5)).await;
    }
}

/// `*.test` are names of a table: see `egress::names`.
async fn check_egress(tier: Tier, options: Options, beginning: Duration) {
    let caps = Caps {
        beginning,
        ..Caps::default()
    };
    let outside = Outside::beside(options, caps).await;
    let allowed = [
        "allowed.test:TLS_PORT",
        "allowed.test:PLAIN_PORT",
        "*.wide.test:PLAIN_PORT",
        "turning.test:PLAIN_PORT",
        "turning.test:80",
        "mixed.test:PLAIN_PORT",
        "private.test",
        "metadata.test",
        "mapped.test",
        "nat64.test",
        "127.0.0.1",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
    ];
    let sandbox = outside.sandbox_of(tier, &allowed).await;
    let table: Table = table("egress.toml");
    play(&sandbox, &table, |text| outside.ports(text)).await;
    let reached = table.case.iter().flat_map(|c| &c.expect);
    let n_reached = reached.filter(|text| text.contains("reached")).count();
    // And four tunnels whose beginning was refused, a redirect, and a hidden request's cover.
    let n_reached = n_reached + 6;
    let n_connections = outside.peers.n_connections.load(Ordering::SeqCst);
    assert_eq!(n_connections, n_reached, "something else was connected to");
}

#[tokio::test]
async fn nothing_is_reached_through_the_proxy_but_what_is_allowed() {
    check_egress(Tier::Namespace, options(), Duration::from_secs(1)).await;
}
