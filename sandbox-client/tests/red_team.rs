//! Commands that mean harm, from `tests/cases/redteam`, and traps outside that must not spring.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use sandbox_client::output::Cap;
use sandbox_client::protocol::LimitsAsked;
use serde::Deserialize;

use crate::world::{World, options, run, shell, told, tree};

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
}

/// Runs every case of a table in one sandbox, so that each also shows that it survived the last.
async fn check(table: &str, limits: LimitsAsked) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/redteam");
    let table = fs::read_to_string(path.join(table)).unwrap();
    let table: Table = toml::from_str(&table).unwrap();

    let mut options = options();
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

    let sandbox = world.sandbox_with(limits).await;
    let mut failed = String::new();
    for case in &table.case {
        let script = case
            .run
            .replace("HOST_SECRET", &secret)
            .replace("HOST_SOCKET", &secret)
            .replace("HOST_PORT", &port);
        let mut command = shell(&script);
        command.program = "/bin/bash".to_owned();
        command.timeout = Duration::from_secs(10);
        let finished = sandbox.run(command, Cap(16 << 10)).await.unwrap();
        let told = told(&finished);
        let missing = case.expect.iter().filter(|text| !told.contains(*text));
        let never = |text: &&String| told.contains(&text.replace("HOST_SECRET", &secret));
        let found = case.never.iter().filter(never);
        for text in missing {
            failed += &format!("{}: no {text:?} in {told:?}\n", case.name);
        }
        for text in found {
            failed += &format!("{}: {text:?} in {told:?}\n", case.name);
        }
        let after = run(&sandbox, "echo usable; cat /proc/[0-9]*/comm | wc -l").await;
        let usable = after.stdout.text();
        if !usable.starts_with("usable\n") {
            failed += &format!(
                "{}: the sandbox is not usable: {}\n",
                case.name,
                self::told(&after)
            );
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert_eq!(tree(&world.root()), before, "the workspace was written");
    assert!(listener.accept().is_err(), "something connected");
    assert!(abstract_listener.accept().is_err(), "something connected");
}

#[tokio::test]
async fn nothing_of_the_machine_is_seen_or_touched() {
    check("escape.toml", LimitsAsked::default()).await;
}

#[tokio::test]
async fn nothing_is_reached() {
    check("network.toml", LimitsAsked::default()).await;
}

#[tokio::test]
async fn nothing_is_used_up() {
    let limits = LimitsAsked {
        memory_bytes: Some(256 << 20),
        disk_bytes: Some(64 << 20),
        ..LimitsAsked::default()
    };
    check("resources.toml", limits).await;
}

#[tokio::test]
async fn nothing_is_typed() {
    check("terminal.toml", LimitsAsked::default()).await;
}
