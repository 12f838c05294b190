//! Sandboxes without namespaces, by hand, and of a service that is killed on the spot.

use std::fs;
use std::time::{Duration, Instant};

use sandbox_client::client::{Address, Addressing, Client, Command, Endpoint, Event, Stdin};
use sandbox_client::protocol::{Create, LocalCreate};
use sandbox_client::tier::Tier;

use super::run;
use crate::sandboxd::Sandboxd;
use crate::world::World;

#[test]
fn a_command_runs_in_a_copy_and_its_changes_are_shown() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("a.txt"), "one\n").unwrap();
    fs::write(workspace.path().join(".env"), "TOKEN=hush\n").unwrap();
    // Too large to be copied, with a name that shows itself as another.
    let large = fs::File::create(workspace.path().join("big\u{202e}bin")).unwrap();
    large.set_len(33 << 20).unwrap();
    let arguments = ["--tier", "landlock"];
    let real = workspace.path().display();
    let script = format!(
        "cat .env {real}/.env {real}/a.txt; sed -i s/one/two/ a.txt; echo x > build.rs; exit 3"
    );
    let output = run(&world, workspace.path(), &arguments, &script);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("Restricted process: shares kernel, pids and other host state (no network"),
        "{told}"
    );
    assert!(told.contains("without 1 files: big\u{fffd}bin"), "{told}");
    assert_eq!(told.matches("Permission denied").count(), 2, "{told}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a.txt changed\n@@ -1,1 +1,1 @@\n-one\n+two\n\
         build.rs new runs on your machine\n@@ -1,0 +1,1 @@\n+x\n"
    );
    let left = fs::read_to_string(workspace.path().join("a.txt")).unwrap();
    assert_eq!(left, "one\n");
    let output = run(
        &world,
        workspace.path(),
        &["--tier", "landlock", "--net", "host.invalid"],
        "true",
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("reaches no network"), "{told}");
}

/// Asks again and again, as the kernel tells nobody.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

fn running(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[test]
fn a_service_that_is_killed_leaves_neither_processes_nor_files() {
    let world = World::knowing();
    let own = tempfile::tempdir().unwrap();
    let key = own.path().join("key");
    let socket = own.path().join("sandboxd");
    let mut arguments = vec!["--min-isolation", "landlock"];
    arguments.extend(["--listen", socket.to_str().unwrap()]);
    arguments.extend(["--key-file", key.to_str().unwrap()]);
    let mut service = Sandboxd::start(&world, &arguments);
    let client = Client::new(Endpoint {
        address: Address::Unix(socket),
        key: fs::read_to_string(key).unwrap().trim().to_owned(),
        addressing: Addressing::Header,
    })
    .unwrap();
    let create = Create {
        template_id: "base".to_owned(),
        pairwright: Some(LocalCreate {
            tier: Some(Tier::Landlock),
            min_isolation: Some(Tier::Landlock),
            ..LocalCreate::default()
        }),
        ..Create::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let prefix = format!("pairwright-restricted-{}-", service.id());
    let directories = || {
        let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&prefix)).count()
    };
    runtime.block_on(async {
        let sandbox = client.create(create).await.unwrap();
        let script =
            "(setsid setsid sleep 4273.5 &) ; mkdir -p a/b; chmod 0 a; echo up; exec sleep 4273.5";
        let command = Command {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            directory: None,
            env: std::collections::BTreeMap::new(),
            input: Stdin::Nothing,
            timeout: Duration::from_secs(60),
        };
        let mut running = sandbox.start(command).await.unwrap();
        assert_eq!(running.next().await.unwrap(), Event::Stdout("up\n".into()));
        std::mem::forget(running);
    });
    until("two run", || running("sleep\u{0}4273.5") == 2);
    assert_eq!(directories(), 1);
    service.kill();
    until("a process lives on", || running("4273.5") == 0);
    until("a directory is left", || directories() == 0);
}
