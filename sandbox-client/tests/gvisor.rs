//! Sandboxes under gVisor's kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use sandbox_client::client::{ClientError, End, Sandbox};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{LimitsAsked, LocalCreate};
use sandbox_client::service::{self, Options};
use sandbox_client::tier::Tier;

use crate::machines::groups;
use crate::returned::list;
use crate::world::{World, asking, options, run, shell, told, tree};

/// Where Debian has it.
const RUNSC: &str = "/usr/bin/runsc";

/// A service on a machine that has gVisor; `None` where there is none. In CI that is a failure.
pub(crate) fn with_gvisor() -> Option<Options> {
    if Path::new(RUNSC).exists() {
        return Some(options());
    }
    assert!(std::env::var_os("CI").is_none(), "there is not runsc");
    eprintln!("not tested: there is not runsc; tests/run installs it");
    None
}

fn under_gvisor(world: &World) -> LocalCreate {
    LocalCreate {
        workspace: Some(world.root()),
        tier: Some(Tier::Gvisor),
        min_isolation: Some(Tier::Gvisor),
        ..LocalCreate::default()
    }
}

async fn create(world: &World) -> Sandbox {
    let sandbox = world.client.create(asking(under_gvisor(world))).await;
    let sandbox = sandbox.unwrap();
    assert_eq!(sandbox.tier(), Tier::Gvisor);
    sandbox
}

/// The living processes of gVisor that this process's service has started.
fn kernels() -> BTreeSet<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse::<u32>().ok()?;
        (!is_dead).then_some(parent)
    };
    let is_ours = |pid: &u32| {
        std::iter::successors(parent(pid), parent).any(|above| above == std::process::id())
    };
    let is_gvisor = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"runsc-") || line.starts_with(RUNSC.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| is_gvisor(pid) && is_ours(pid)).collect()
}

/// Waits until nothing of gVisor is left, nor of what limits it.
async fn until_there_is_nothing() {
    let gone = async {
        while !kernels().is_empty() || !groups(std::process::id()).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
    gone.unwrap_or_else(|_| panic!("{:?}, {:?}", kernels(), groups(std::process::id())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_meets_another_kernel_and_its_changes_come_back() {
    let Some(mut options) = with_gvisor() else {
        return;
    };
    options.limits.disk_bytes = 64 << 20;
    let world = World::with(options);
    world.write("a.txt", "one\n");
    world.write("gone/x", "x");
    world.write("hidden/key", "hush");
    world.write(".env", "hush");
    let root = world.root();
    let before = tree(&root);
    let local = LocalCreate {
        masks: vec![root.join(".env"), root.join("hidden")],
        ..under_gvisor(&world)
    };
    let sandbox = world.client.create(asking(local)).await.unwrap();
    let label = sandbox.label();
    assert!(label.starts_with("User-space kernel (gVisor) ("), "{label}");
    assert!(label.contains("memory"), "{label}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let said = run(
        &sandbox,
        "uname -r; id -un; pwd; cat .env; ls hidden; cat /run/gvisor/config.json; exit 3",
    )
    .await;
    assert_eq!(said.end, End::Exited(3));
    // What gVisor is started with is not for commands.
    assert!(
        said.stderr.text().contains("config.json: No such file"),
        "{}",
        told(&said)
    );
    let said = said.stdout.text();
    let mut lines = said.lines();
    assert_ne!(lines.next(), Some(release.trim()));
    assert_eq!(lines.next(), Some("user"));
    assert_eq!(lines.next(), root.to_str());
    assert_eq!(lines.next(), None, "{said}");

    let script = "echo two > a.txt; rm -r gone; mkdir -p n/ew; echo x > n/ew/f; ln -s f n/ew/l
        printf '#!/bin/sh\\necho ran\\n' > run; chmod +x run; ./run; head -c 100M /dev/zero > /tmp/big";
    let finished = run(&sandbox, script).await;
    assert_eq!(finished.stdout.text(), "ran\n");
    assert!(
        finished.stderr.text().contains("No space left"),
        "{}",
        told(&finished)
    );
    assert_eq!(
        list(&world.changes(&sandbox).await),
        "a.txt: written \"two\\n\"\ngone/x: deleted\nn/ew/f: written \"x\\n\"\n\
         n/ew/l: link f\nrun: written +x \"#!/bin/sh\\necho ran\\n\"\n"
    );
    assert_eq!(tree(&root), before);
    // Files from outside, as the sandbox's user.
    run(&sandbox, "rm /tmp/big").await;
    let path = root.join("up/loaded");
    sandbox
        .write_file(path.to_str().unwrap(), "up".into())
        .await
        .unwrap();
    assert_eq!(
        run(&sandbox, "cat up/loaded; echo more >> up/loaded")
            .await
            .stdout
            .text(),
        "up"
    );
    sandbox.kill().await.unwrap();
    until_there_is_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_running_ends_with_it_and_what_others_run_does_not() {
    let Some(options) = with_gvisor() else { return };
    let world = World::with(options);
    let sandbox = create(&world).await;
    let other = sandbox.clone();
    let beside = tokio::spawn(async move {
        let mut command = shell("echo up; until test -e /tmp/stop; do :; done; echo done");
        command.timeout = Duration::from_secs(40);
        other.run(command, Cap(1000)).await.unwrap()
    });
    let script = "setsid -f sh -c 'while :; do sleep 1; done'; (sleep 300 &)
        until [ $(grep -lx sleep /proc/[0-9]*/comm | wc -l) = 2 ]; do :; done; echo two";
    assert_eq!(run(&sandbox, script).await.stdout.text(), "two\n");
    let asleep = "grep -lx sleep /proc/[0-9]*/comm | wc -l";
    assert_eq!(run(&sandbox, asleep).await.stdout.text(), "0\n");
    run(&sandbox, "touch /tmp/stop").await;
    assert_eq!(told(&beside.await.unwrap()), "Exited(0)\nup\ndone\n");
    let mut late = shell("setsid sleep 300 & sleep 300");
    late.timeout = Duration::from_secs(1);
    let late = sandbox.run(late, Cap(1000)).await.unwrap();
    assert_eq!(late.end, End::TimedOut);
}

/// gVisor builds its own walls within ours: that is what its tier claims.
#[tokio::test(flavor = "multi_thread")]
async fn gvisors_programs_wear_filters_and_see_nothing_of_the_machine() {
    let Some(options) = with_gvisor() else { return };
    let world = World::with(options);
    let _sandbox = create(&world).await;
    let own = |pid: &u32, file: &str| fs::read_link(format!("/proc/{pid}/{file}")).unwrap();
    let mut n_kernels = 0;
    for pid in kernels() {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        for namespace in ["user", "net", "mnt", "pid", "ipc", "uts", "cgroup"] {
            let file = format!("ns/{namespace}");
            let ours = own(&std::process::id(), &file);
            assert_ne!(own(&pid, &file), ours, "{namespace} of {line}");
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{line}: {status}");
        let (is_kernel, is_files) = (
            line.starts_with("runsc-sandbox"),
            line.starts_with("runsc-gofer"),
        );
        if is_kernel || is_files {
            n_kernels += usize::from(is_kernel);
            assert!(status.contains("Seccomp:\t2"), "{line}: {status}");
        }
        if is_kernel {
            let all = fs::read_dir(format!("/proc/{pid}/root/")).unwrap();
            let names: BTreeSet<_> = all.map(|entry| entry.unwrap().file_name()).collect();
            assert!(
                names.len() < 4 && !names.contains(std::ffi::OsStr::new("usr")),
                "{names:?}"
            );
        }
    }
    assert_eq!(n_kernels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_there_is_ends_the_sandbox_and_nothing_else() {
    let Some(options) = with_gvisor() else { return };
    let world = World::with(options);
    let limits = LimitsAsked {
        memory_bytes: Some(256 << 20),
        ..LimitsAsked::default()
    };
    let local = LocalCreate {
        limits: Some(limits),
        ..under_gvisor(&world)
    };
    let sandbox = world.client.create(asking(local)).await.unwrap();
    if sandbox.label().contains("no memory limit") {
        return;
    }
    let other = create(&world).await;
    let script = "python3 -c \"x=bytearray(4<<30)\"; echo over";
    let ran = sandbox.run(shell(script), Cap(1000)).await;
    assert_eq!(ran.err(), Some(ClientError::Gone));
    assert_eq!(told(&run(&other, "echo on").await), "Exited(0)\non\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_come_and_go_leave_nothing() {
    let Some(options) = with_gvisor() else { return };
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let world = World::with(options);
    for _ in 0..4 {
        let all = futures_util::future::join_all((0..3).map(|_| create(&world))).await;
        let used = all
            .iter()
            .map(|sandbox| run(sandbox, "echo used > f; cat f"));
        for said in futures_util::future::join_all(used).await {
            assert_eq!(told(&said), "Exited(0)\nused\n");
        }
        for sandbox in all {
            sandbox.kill().await.unwrap();
        }
    }
    until_there_is_nothing().await;
    // One without a workspace, which is left.
    let local = LocalCreate {
        workspace: None,
        ..under_gvisor(&world)
    };
    let left = world.client.create(asking(local)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(told(&run(&left, "pwd").await), "Exited(0)\n/home/user\n");
    }
    assert!(!kernels().is_empty());
    world.service.stop().await;
    until_there_is_nothing().await;
    assert_eq!(mounts(), before);
}

#[tokio::test]
async fn where_there_is_no_gvisor_there_is_none_and_it_is_said_why() {
    for (runsc, words) in [
        ("/nowhere/runsc", "gVisor is not at /nowhere/runsc"),
        ("/usr/bin/true", "it ended before it answered"),
        ("/usr/bin/cat", "it said: "),
    ] {
        let mut options = options();
        options.machines.runsc = Some(runsc.into());
        let why = service::probe(&options, Tier::Gvisor).await.err();
        let why = why.map(|why| why.to_string()).unwrap_or_default();
        assert!(
            why.contains("of the tier gvisor") && why.contains(words),
            "{why}"
        );
    }
}

/// One with whose kernel programs have trouble is for those alone who demand it.
#[tokio::test]
async fn the_strongest_is_gvisor_only_where_programs_of_today_run() {
    let Some(options) = with_gvisor() else { return };
    let world = World::with(options);
    let asked = LocalCreate {
        tier: None,
        min_isolation: None,
        strongest: true,
        limits: Some(LimitsAsked {
            memory_bytes: Some(128 << 20),
            ..LimitsAsked::default()
        }),
        ..under_gvisor(&world)
    };
    let sandbox = world.client.create(asking(asked.clone())).await.unwrap();
    let listed = run(&sandbox, "ls -ld /usr").await;
    assert_eq!(listed.end, End::Exited(0), "{}", told(&listed));
    let label = sandbox.label();
    let is_old = label.contains("this gVisor is too old for");
    let tier = if is_old {
        Tier::Namespace
    } else {
        Tier::Gvisor
    };
    assert_eq!(sandbox.tier(), tier, "{label}");
    let demanded = LocalCreate {
        min_isolation: Some(Tier::Gvisor),
        ..asked
    };
    let sandbox = world.client.create(asking(demanded)).await.unwrap();
    assert_eq!(sandbox.tier(), Tier::Gvisor);
    let label = sandbox.label();
    assert_eq!(
        label.contains("this gVisor is too old for"),
        is_old,
        "{label}"
    );
}
