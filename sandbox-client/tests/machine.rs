//! Commands in virtual machines: real ones, emulated by QEMU with a distribution's kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use sandbox_client::client::{ClientError, End, Event, Stdin};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{LimitsAsked, LocalCreate};
use sandbox_client::service::{self, Host, Machines, Options};
use sandbox_client::tier::Tier;
use serde_json::Value;

use crate::machines;
use crate::world::{World, asking, options, run, shell, told, tree};

/// How a service of machines is set up that see no home directory. Templates are shared with all
/// other tests: the first makes one.
pub(crate) fn with_machines() -> Option<Options> {
    let mut options = options();
    options.host = Host::find(None, None);
    options.machines.kernel = Some(machines::kernel()?);
    options.state = Some(env!("CARGO_TARGET_TMPDIR").into());
    Some(options)
}

fn world() -> Option<World> {
    Some(World::with(with_machines()?))
}

pub(crate) fn emulated(world: &World) -> LocalCreate {
    LocalCreate {
        workspace: Some(world.root()),
        tier: Some(Tier::VmEmulated),
        min_isolation: Some(Tier::VmEmulated),
        limits: Some(LimitsAsked {
            memory_bytes: Some(512 << 20),
            disk_bytes: Some(64 << 20),
            ..LimitsAsked::default()
        }),
        ..LocalCreate::default()
    }
}

/// One machine for many claims, as each takes seconds to start.
#[tokio::test]
async fn commands_in_a_machine_are_as_in_any_sandbox() {
    let Some(world) = world() else { return };
    world.write("a.txt", "one\n");
    world.write("b/c.txt", "gone\n");
    world.write("secret", "hush");
    let before = tree(&world.root());
    let mut local = emulated(&world);
    local.masks = vec![world.root().join("secret")];
    let sandbox = world.client.create(asking(local)).await.unwrap();
    assert_eq!(sandbox.tier(), Tier::VmEmulated);
    assert!(!sandbox.label().contains("booted"), "{}", sandbox.label());

    let own = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let said = run(&sandbox, "uname -r; cat secret; echo no >&2; exit 7").await;
    assert_eq!(said.end, End::Exited(7));
    assert_ne!(said.stdout.text(), own, "it has the kernel of this machine");
    assert!(!said.stdout.text().contains("hush"));
    assert_eq!(said.stderr.text(), "no\n");

    let mut reads = shell("cat; echo over");
    reads.input = Stdin::Piped;
    let mut running = sandbox.start(reads).await.unwrap();
    running.write(b"typed\n".to_vec()).await.unwrap();
    running.close_input().await.unwrap();
    let mut typed = Vec::new();
    let end = loop {
        match running.next().await.unwrap() {
            Event::Stdout(bytes) | Event::Stderr(bytes) => typed.extend(bytes),
            Event::End(end) => break end,
        }
    };
    assert_eq!(
        (end, typed.as_slice()),
        (End::Exited(0), b"typed\nover\n".as_slice())
    );

    let mut late = shell("setsid sleep 300 & sleep 300");
    late.timeout = Duration::from_secs(2);
    let said = sandbox.run(late, Cap(1 << 10)).await.unwrap();
    assert_eq!(said.end, End::TimedOut);
    let left = run(&sandbox, "cat /proc/[0-9]*/comm | grep -c sleep").await;
    assert_eq!(left.stdout.text(), "0\n", "what it started lives on");

    let said = run(&sandbox, "cat /proc/net/dev | tail -n +3 | grep -vc ' lo:'").await;
    assert_eq!(told(&said), "Exited(1)\n0\n", "there is a network device");

    let flood = shell("head -c 20000000 /dev/zero");
    let said = sandbox.run(flood, Cap(16 << 10)).await.unwrap();
    assert_eq!(said.end, End::Exited(0));
    assert!(said.stdout.text().len() < 128 << 10);

    let script = "echo two > a.txt; rm -r b; mkdir b; echo x > b/new; ln -s a.txt link";
    let said = run(&sandbox, script).await;
    assert_eq!(said.end, End::Exited(0), "{}", told(&said));
    let changes = world.changes(&sandbox).await;
    let mut paths: Vec<&str> = changes
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["a.txt", "b/c.txt", "b/new", "link"]);
    assert_eq!(tree(&world.root()), before, "the workspace was written");
    sandbox.kill().await.unwrap();
}

/// What clones would have in common if nobody saw to it.
#[tokio::test]
async fn clones_have_their_own_randomness_time_disks_and_token() {
    let Some(world) = world() else { return };
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("own"), "other").unwrap();
    world.write("own", "first");
    let mut of_other = emulated(&world);
    of_other.workspace = Some(other.path().canonicalize().unwrap());
    let script = "cat own; date +%s; od -An -tx1 -N16 /dev/urandom; \
                  cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id";
    let mut all = Vec::new();
    for local in [emulated(&world), of_other, emulated(&world)] {
        let sandbox = world.client.create(asking(local)).await.unwrap();
        assert!(!sandbox.label().contains("booted"), "{}", sandbox.label());
        let said = run(&sandbox, script).await.stdout.text();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (contents, rest) = said.split_at(5);
        let (seconds, random) = rest.split_once('\n').unwrap();
        let seconds: u64 = seconds.parse().unwrap();
        assert!(now.unwrap().as_secs().abs_diff(seconds) <= 5, "{said}");
        let random: Vec<String> = random.lines().map(str::to_owned).collect();
        assert_eq!(random.len(), 3, "{said}");
        all.push((contents.to_owned(), random, sandbox));
    }
    let contents: Vec<&str> = all.iter().map(|(contents, ..)| contents.as_str()).collect();
    assert_eq!(contents, ["first", "other", "first"]);
    for line in 0..3 {
        let said: BTreeSet<&String> = all.iter().map(|(_, random, _)| &random[line]).collect();
        assert_eq!(said.len(), all.len(), "{said:?}");
    }
    // What one writes, no other sees, and not the next either.
    run(&all[0].2, "echo mine > own; echo mine > /tmp/note").await;
    let seen = run(&all[2].2, "cat own; cat /tmp/note").await;
    assert!(!told(&seen).contains("mine"), "{}", told(&seen));
}

#[tokio::test]
async fn a_template_that_is_broken_is_made_again() {
    let Some(mut options) = with_machines() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    options.state = Some(state.path().to_owned());
    let label = async || {
        let world = World::with(options.clone());
        let sandbox = world.client.create(asking(emulated(&world))).await.unwrap();
        assert_eq!(told(&run(&sandbox, "echo here").await), "Exited(0)\nhere\n");
        sandbox.label()
    };
    let kept = || {
        let machines = fs::read_dir(state.path().join("machines")).unwrap();
        let paths = machines.map(|entry| entry.unwrap().path());
        paths.collect::<Vec<_>>()
    };
    let first = label().await;
    assert!(!first.contains("booted"), "{first}");
    let [template] = kept().try_into().unwrap();
    let mode = fs::metadata(template.join("memory")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read a generator's state");

    // One byte of what a machine would go on from is another.
    let checksum = fs::read(template.join("manifest.json")).unwrap();
    let memory = File::options().write(true).open(template.join("memory"));
    memory.unwrap().write_all_at(b"\xee", 5 << 20).unwrap();
    let second = label().await;
    assert!(!second.contains("booted"), "{second}");
    let again = fs::read(template.join("manifest.json")).unwrap();
    assert_ne!(again, checksum, "a broken one was taken");

    // All is as its manifest says, and no machine goes on from it.
    let states = template.join("state");
    let mut bytes = fs::read(&states).unwrap();
    bytes[..64].fill(0);
    fs::write(&states, &bytes).unwrap();
    resign(&template);
    let third = label().await;
    assert!(!third.contains("booted"), "{third}");
    let made_again = "its template was made again: QEMU did not do as it was told";
    assert!(third.contains(made_again), "{third}");
    let [template] = kept().try_into().unwrap();
    assert_ne!(fs::read(template.join("state")).unwrap(), bytes);
    let fourth = label().await;
    assert!(!fourth.contains("template"), "{fourth}");
}

/// Makes a manifest agree with what is beside it.
fn resign(template: &Path) {
    const PIECE: usize = 64 << 10;
    let read = |name: &str| fs::read(template.join(name)).unwrap();
    let mut digest = blake3::Hasher::new();
    for part in [read("state"), read("kernel")] {
        digest
            .update(&(part.len() as u64).to_le_bytes())
            .update(&part);
    }
    let memory = read("memory");
    for (n, piece) in memory.chunks(PIECE).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            digest
                .update(&((n * PIECE) as u64).to_le_bytes())
                .update(piece);
        }
    }
    let told = format!(
        r#"{{"memoryBytes":{},"checksum":"{}"}}"#,
        memory.len(),
        digest.finalize().to_hex()
    );
    fs::write(template.join("manifest.json"), told).unwrap();
}

#[tokio::test]
async fn what_is_missing_is_said_with_what_would_help() {
    let cases = [
        (Some("/nowhere/qemu"), None, "QEMU is not at /nowhere/qemu"),
        (
            Some("/usr/bin/true"),
            Some("/nowhere/kernel"),
            "/nowhere/kernel",
        ),
        (
            Some("/usr/bin/true"),
            Some("/usr/bin/true"),
            "it ended before it answered",
        ),
    ];
    for (monitor, kernel, words) in cases {
        let mut options = options();
        options.host = Host::find(None, None);
        options.machines = Machines {
            monitor: monitor.map(PathBuf::from),
            kernel: kernel.map(PathBuf::from),
            runsc: None,
        };
        let why = service::probe(&options, Tier::VmEmulated).await.err();
        let why = why.map(|why| why.to_string()).unwrap_or_default();
        assert!(why.contains("vm-emulated") && why.contains(words), "{why}");
    }
}

/// The processes of this process's machines that have `memory`, in MiB.
pub(crate) fn monitors_with(memory: u64) -> Vec<Pid> {
    let words = format!("\0-m\0{memory}\0");
    let parent = |pid: &i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(1)?.parse().ok()
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let monitors = pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_it = String::from_utf8_lossy(&line).contains(&words);
        is_it && std::iter::successors(Some(*pid), parent).any(|pid| pid == own)
    });
    monitors.filter_map(Pid::from_raw).collect()
}

/// Waits until so many machines of this memory are there.
pub(crate) async fn until_there_are(n_monitors: usize, memory: u64) {
    let there = async {
        while monitors_with(memory).len() != n_monitors {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    let found = tokio::time::timeout(patience, there).await;
    found.unwrap_or_else(|_| panic!("there are {}", monitors_with(memory).len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_machine_waits_for_who_comes_next_and_ends_with_the_service() {
    const MEMORY: u64 = 334;
    let Some(mut options) = with_machines() else {
        return;
    };
    options.ready = 1;
    let world = World::with(options);
    let mut local = emulated(&world);
    local.limits = Some(LimitsAsked {
        memory_bytes: Some(MEMORY << 20),
        ..LimitsAsked::default()
    });
    let first = world.client.create(asking(local.clone())).await.unwrap();
    until_there_are(2, MEMORY).await;
    world.write("since", "the one that waits has not seen it\n");
    let second = world.client.create(asking(local)).await.unwrap();
    let said = run(&second, "cat since").await;
    assert_eq!(said.stdout.text(), "the one that waits has not seen it\n");
    // It took the one that waited, and another waits now.
    until_there_are(3, MEMORY).await;
    assert_eq!(world.client.list().await.unwrap().len(), 2);
    assert_ne!(first.id(), second.id());
    world.service.stop().await;
    until_there_are(0, MEMORY).await;
}

#[tokio::test]
async fn a_machine_that_dies_is_a_sandbox_that_is_gone() {
    const MEMORY: u64 = 333;
    let Some(world) = world() else { return };
    let mut local = emulated(&world);
    local.limits = Some(LimitsAsked {
        memory_bytes: Some(MEMORY << 20),
        ..LimitsAsked::default()
    });
    let sandbox = world.client.create(asking(local)).await.unwrap();
    let mut running = sandbox.start(shell("echo up; sleep 300")).await.unwrap();
    assert_eq!(running.next().await, Ok(Event::Stdout("up\n".into())));
    let monitor = monitors_with(MEMORY)[0];
    kill_process(monitor, Signal::KILL).unwrap();
    assert_eq!(running.next().await, Err(ClientError::Gone));
    let after = sandbox.start(shell("true")).await.err();
    assert_eq!(after, Some(ClientError::Gone));
}

/// A page that a clone writes first comes twice: once to the template's file, once to the clone.
#[tokio::test]
async fn a_machine_can_use_the_memory_that_it_was_given() {
    let Some(world) = world() else { return };
    let mut local = emulated(&world);
    local.limits = Some(LimitsAsked {
        memory_bytes: Some(1 << 30),
        ..LimitsAsked::default()
    });
    let sandbox = world.client.create(asking(local)).await.unwrap();
    let said = run(&sandbox, "dd if=/dev/zero of=/dev/null bs=850M count=1").await;
    assert_eq!(said.end, End::Exited(0), "{}", told(&said));
    sandbox.kill().await.unwrap();
}

/// A service whose machines end as soon as they start.
fn without_machines(state: &Path, kernel: &str) -> World {
    let mut options = options();
    options.host = Host::find(None, None);
    options.machines = Machines {
        monitor: Some("/usr/bin/true".into()),
        kernel: Some(kernel.into()),
        runsc: Some("/usr/bin/true".into()),
    };
    options.state = Some(state.to_owned());
    World::with(options)
}

#[tokio::test]
async fn the_strongest_there_is_is_taken_and_what_did_not_start_is_not_tried_again() {
    let state = tempfile::tempdir().unwrap();
    let verdicts = state.path().join("sandbox-tiers.json");
    let asked = LocalCreate {
        strongest: true,
        ..LocalCreate::default()
    };
    let label = async |kernel: &str| {
        let world = without_machines(state.path(), kernel);
        let sandbox = world.client.create(asking(asked.clone())).await.unwrap();
        assert_eq!(sandbox.tier(), Tier::Namespace);
        assert_eq!(told(&run(&sandbox, "echo here").await), "Exited(0)\nhere\n");
        sandbox.label()
    };
    let first = label("/usr/bin/true").await;
    assert!(first.contains("no sandbox of the tier vm: "), "{first}");
    assert!(
        first.contains("no sandbox of the tier gvisor: it ended before it answered"),
        "{first}"
    );
    let kept = fs::read_to_string(&verdicts).unwrap();
    fs::write(&verdicts, kept.replace("no sandbox", "REMEMBERED")).unwrap();
    let second = label("/usr/bin/true").await;
    assert!(second.contains("REMEMBERED of the tier vm: "), "{second}");
    // What it depends on is another thing now.
    let third = label("/usr/bin/false").await;
    assert!(third.contains("no sandbox of the tier vm: "), "{third}");
    // Nothing that is written there is a word.
    fs::write(&verdicts, "[]").unwrap();
    let fourth = label("/usr/bin/false").await;
    assert!(fourth.contains("no sandbox of the tier vm: "), "{fourth}");
}

/// Verdicts as a service wrote them, changed; and whether the next believes them.
#[tokio::test]
async fn a_verdict_is_believed_while_all_that_it_depends_on_is_the_same() {
    const DAY: u64 = 24 * 3_600;
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("sandbox-tiers.json");
    let label = async |memory: u64| {
        let world = without_machines(state.path(), "/usr/bin/true");
        let asked = LocalCreate {
            strongest: true,
            limits: Some(LimitsAsked {
                memory_bytes: Some(memory << 20),
                ..LimitsAsked::default()
            }),
            ..LocalCreate::default()
        };
        world.client.create(asking(asked)).await.unwrap().label()
    };
    label(512).await;
    let mut found: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    found["vm"]["why"] = "REMEMBERED".into();
    let now = found["vm"]["found"].as_u64().unwrap();
    let other = |pointer: &str, value: Value| {
        let mut changed = found.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let kvm = found["vm"]["under"]["kvm"].as_bool().unwrap();
    for (what, verdicts, memory, is_believed) in [
        ("the same", found.clone(), 512, true),
        (
            "hours later",
            other("/vm/found", (now - DAY / 2).into()),
            512,
            true,
        ),
        (
            "the next day",
            other("/vm/found", (now - DAY).into()),
            512,
            false,
        ),
        (
            "a clock set back",
            other("/vm/found", (now + DAY).into()),
            512,
            false,
        ),
        (
            "another start",
            other("/vm/under/boot", "x".into()),
            512,
            false,
        ),
        ("KVM", other("/vm/under/kvm", (!kvm).into()), 512, false),
        (
            "QEMU",
            other("/vm/under/monitor/bytes", 1.into()),
            512,
            false,
        ),
        (
            "a kernel",
            other("/vm/under/kernel", Value::Null),
            512,
            false,
        ),
        ("gVisor", other("/vm/under/runsc", Value::Null), 512, false),
        (
            "this program",
            other("/vm/under/program", Value::Null),
            512,
            false,
        ),
        ("a larger machine", found.clone(), 513, false),
    ] {
        fs::write(&path, verdicts.to_string()).unwrap();
        let label = label(memory).await;
        assert_eq!(label.contains("REMEMBERED"), is_believed, "{what}: {label}");
    }
}

#[tokio::test]
async fn where_the_strongest_is_weaker_than_what_is_demanded_there_is_none() {
    let state = tempfile::tempdir().unwrap();
    let world = without_machines(state.path(), "/usr/bin/true");
    for wanted in [Tier::Gvisor, Tier::VmEmulated, Tier::Vm] {
        let asked = LocalCreate {
            strongest: true,
            min_isolation: Some(wanted),
            ..LocalCreate::default()
        };
        let refused = world.client.create(asking(asked)).await.err();
        let words = format!("no sandbox of the tier {}", wanted.name());
        assert!(
            matches!(&refused, Some(ClientError::Refused { message, .. }) if message.contains(&words)),
            "{refused:?}"
        );
    }
    assert!(world.client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn less_than_was_asked_for_is_refused() {
    let world = World::new();
    let mut local = emulated(&world);
    local.min_isolation = Some(Tier::Vm);
    let refused = world.client.create(asking(local)).await.err();
    assert!(
        matches!(&refused, Some(ClientError::Refused { message, .. }) if message.contains("at least")),
        "{refused:?}"
    );
}

/// Two files that are larger than any disk, and take no room.
fn write_too_much(world: &World) {
    for name in ["a", "b"] {
        let file = File::create(world.root().join(name)).unwrap();
        file.set_len(9 << 40).unwrap();
    }
}

#[tokio::test]
async fn a_workspace_that_no_machine_can_show_is_refused_with_the_reason_and_not_held_against_machines()
 {
    let Some(mut options) = with_machines() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    options.state = Some(state.path().to_owned());
    let world = World::with(options);
    write_too_much(&world);
    let refused = world.client.create(asking(emulated(&world))).await.err();
    let Some(ClientError::Refused { message, .. }) = &refused else {
        panic!("{refused:?}");
    };
    let words = "a sandbox of the tier vm-emulated cannot show what was asked for: ";
    assert!(message.contains(words), "{message}");
    assert!(message.contains("16 TiB can be shown"), "{message}");
    // Another workspace is shown: it was not the machine's fault.
    assert!(!state.path().join("sandbox-tiers.json").exists());
    assert!(world.client.list().await.unwrap().is_empty());
}
