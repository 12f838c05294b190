//! Commands that mean harm, from `tests/cases/redteam`, and traps outside that must not spring.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbox_client::client::Sandbox;
use sandbox_client::output::Cap;
use sandbox_client::protocol::{LimitsAsked, LocalCreate};
use sandbox_client::service::{Caps, Options};
use sandbox_client::tier::Tier;
use serde::Deserialize;

use crate::egress::{Outside, denials};
use crate::machine::with_machines;
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
}

fn table(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/redteam");
    let table = fs::read_to_string(path.join(name)).unwrap();
    toml::from_str(&table).unwrap()
}

/// Runs every case of a table in one sandbox, so that each also shows that it survived the last.
async fn check(name: &str, tier: Tier, limits: LimitsAsked) {
    let table = table(name);
    let options = match tier.is_machine() {
        true => with_machines(),
        false => Some(options()),
    };
    let Some(mut options) = options else {
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
    let mut failed = String::new();
    let mut n_denials = 0;
    for case in &table.case {
        let name = &case.name;
        let mut command = shell(&filled(&case.run));
        command.program = "/bin/bash".to_owned();
        command.timeout = match sandbox.tier() {
            Tier::VmEmulated => Duration::from_secs(40),
            Tier::Namespace | Tier::Vm | Tier::Remote => Duration::from_secs(10),
        };
        let finished = sandbox.run(command, Cap(16 << 10)).await.unwrap();
        let told = told(&finished);
        for text in case.expect.iter().map(|text| filled(text)) {
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

/// The same in emulated machines, whose kernels are their own. Not `resources.toml`: what uses a
/// sandbox up takes minutes there.
#[cfg(target_arch = "x86_64")]
mod in_a_machine {
    use super::*;

    const SOME: LimitsAsked = LimitsAsked {
        memory_bytes: Some(512 << 20),
        disk_bytes: Some(64 << 20),
        processors: None,
        command_seconds: None,
    };

    #[tokio::test]
    async fn nothing_of_the_machine_is_seen_or_touched() {
        check("escape.toml", Tier::VmEmulated, SOME).await;
    }

    #[tokio::test]
    async fn nothing_is_reached() {
        check("network.toml", Tier::VmEmulated, SOME).await;
    }

    #[tokio::test]
    async fn nothing_is_typed() {
        check("terminal.toml", Tier::VmEmulated, SOME).await;
    }

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
    let table = table("egress.toml");
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
