//! Sandboxes without namespaces, and what must hold of them all the same.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sandbox_client::changes::{self, Changes};
use sandbox_client::client::{ClientError, End, Event, Sandbox};
use sandbox_client::copy::{Bounds, Copied};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{LimitsAsked, LocalCreate, Network};
use sandbox_client::service::{self, Options};
use sandbox_client::tier::Tier;

use crate::machines::groups;
use crate::returned::list;
use crate::world::{World, asking, options, run, shell, told, tree};

/// A service that makes the weakest sandboxes, too.
pub(crate) fn accepting() -> Options {
    Options {
        min_isolation: Tier::Landlock,
        ..options()
    }
}

/// Whether this kernel has all of Landlock that is tested. In CI it has to.
pub(crate) async fn is_here() -> bool {
    let lacks = match service::probe(&accepting(), Tier::Landlock).await {
        Ok(notes) => notes
            .into_iter()
            .find(|note| note.contains("can signal no")),
        Err(why) => Some(why.to_string()),
    };
    let Some(lacks) = lacks else { return true };
    assert!(std::env::var_os("CI").is_none(), "{lacks}");
    eprintln!("not tested: {lacks}");
    false
}

pub(crate) fn restricted(world: &World) -> LocalCreate {
    LocalCreate {
        workspace: Some(world.root()),
        tier: Some(Tier::Landlock),
        min_isolation: Some(Tier::Landlock),
        ..LocalCreate::default()
    }
}

pub(crate) fn is_secret(path: &Path) -> bool {
    path.ends_with(".env")
}

/// A sandbox, and the workspace in it.
pub(crate) async fn create(world: &World, local: LocalCreate) -> (Sandbox, Copied) {
    let sandbox = world.client.create(asking(local)).await.unwrap();
    assert_eq!(sandbox.tier(), Tier::Landlock);
    let copied = Copied::bring(&sandbox, &world.root(), is_secret, Bounds::default()).await;
    (sandbox, copied.unwrap())
}

pub(crate) async fn changes_of(world: &World, sandbox: &Sandbox, copied: &Copied) -> Changes {
    let bounds = changes::Bounds::default();
    let found = changes::collect_copied(sandbox, &world.root(), copied, bounds).await;
    found.unwrap()
}

/// The directories of this process's sandboxes.
fn directories() -> Vec<PathBuf> {
    let prefix = format!("pairwright-restricted-{}-", std::process::id());
    let all = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix)
    };
    all.map(|entry| entry.path()).filter(is_own).collect()
}

/// The living processes with `word` in their command line.
fn with(word: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    pids.filter(has_it).collect()
}

/// Waits, as no kernel tells.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looks = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let looks = tokio::time::timeout(Duration::from_secs(30), looks).await;
    looks.unwrap_or_else(|_| panic!("{what}"));
}

async fn until_nothing_is_left(word: &str) {
    until("a process is left", || with(word).is_empty()).await;
    until("a directory is left", || directories().is_empty()).await;
    until("a group is left", || groups(std::process::id()).is_empty()).await;
}

#[tokio::test]
async fn a_command_works_in_a_copy_and_its_changes_come_back() {
    if !is_here().await {
        return;
    }
    let world = World::with(accepting());
    world.write("a.txt", "one\n");
    world.write("gone/x", "x");
    world.write(".env", "TOKEN=hush");
    world.write(".git/config", "[core]");
    let before = tree(&world.root());
    let (sandbox, copied) = create(&world, restricted(&world)).await;
    let label = sandbox.label();
    let words =
        "Restricted process: shares kernel, pids and other host state (no network; by Landlock ";
    assert!(label.starts_with(words), "{label}");
    let own = directories();
    assert_eq!(own.len(), 1, "{own:?}");
    let found = own[0].metadata().unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o700);
    assert!(Path::new(copied.directory()).starts_with(&own[0]));

    let mut command = shell(
        "cat .env; ls -A; echo two > a.txt; rm -r gone; mkdir -p n/ew; echo x > n/ew/f; ln -s f n/ew/l
        printf '#!/bin/sh\\necho ran\\n' > run; chmod +x run; ./run; echo $HOME | grep -c pairwright
        echo t > $TMPDIR/t; exit 3",
    );
    command.directory = Some(copied.directory().to_owned());
    let finished = sandbox.run(command, Cap(4000)).await.unwrap();
    assert_eq!(finished.end, End::Exited(3));
    assert_eq!(
        finished.stdout.text(),
        "a.txt\ngone\nran\n1\n",
        "{}",
        told(&finished)
    );
    assert_eq!(
        list(&changes_of(&world, &sandbox, &copied).await),
        "a.txt: written \"two\\n\"\ngone/x: deleted\nn/ew/f: written \"x\\n\"\n\
         n/ew/l: link f\nrun: written +x \"#!/bin/sh\\necho ran\\n\"\n"
    );
    assert_eq!(tree(&world.root()), before);
    sandbox.kill().await.unwrap();
    assert_eq!(directories(), [""; 0].map(PathBuf::from));
}

/// Paths that a command has made are followed by the agent, too, which is no more than a command.
#[tokio::test]
async fn the_agent_follows_no_link_out_either() {
    if !is_here().await {
        return;
    }
    let world = World::with(accepting());
    world.write("a.txt", "one\n");
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "hush").unwrap();
    let (sandbox, copied) = create(&world, restricted(&world)).await;
    let line = format!(
        "cd {} && ln -s {} out && ln -s {} d",
        copied.directory(),
        secret.display(),
        outside.path().display()
    );
    assert_eq!(told(&run(&sandbox, &line).await), "Exited(0)\n");
    for path in ["out", "d/secret"] {
        let at = format!("{}/{path}", copied.directory());
        for refused in [
            sandbox.read_file(&at, 9999).await.map(drop).err(),
            sandbox.write_file(&at, "x".into()).await.err(),
        ] {
            assert!(
                matches!(&refused, Some(ClientError::Refused { status: 403, .. })),
                "{path}: {refused:?}"
            );
        }
    }
    let real = world.root().join("a.txt");
    let real = real.to_str().unwrap();
    assert!(sandbox.write_file(real, "x".into()).await.is_err());
    assert!(sandbox.read_file("/etc/shadow", 9999).await.is_err());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hush");
    sandbox.write_file("own", "x".into()).await.unwrap();
    assert_eq!(run(&sandbox, "cat ~/own").await.stdout.text(), "x");
}

#[tokio::test]
async fn what_a_command_leaves_running_ends_with_it_and_what_others_run_does_not() {
    if !is_here().await {
        return;
    }
    let world = World::with(accepting());
    let (sandbox, _) = create(&world, restricted(&world)).await;
    let mut beside = sandbox
        .start(shell(
            "echo up; until test -e $TMPDIR/stop; do :; done; echo done",
        ))
        .await
        .unwrap();
    assert_eq!(beside.next().await.unwrap(), Event::Stdout("up\n".into()));
    // Daemons in sessions of their own whose parents are gone, also one that forks all the time.
    let script = "setsid -f sh -c 'while :; do sleep 0.010271; done'; (setsid sleep 4271.5 &)
        (cd /; exec setsid -f env -i /bin/sleep 4271.5); echo left";
    assert_eq!(told(&run(&sandbox, script).await), "Exited(0)\nleft\n");
    assert!(with("4271.5").is_empty());
    assert!(with("0.010271").is_empty());
    run(&sandbox, "touch $TMPDIR/stop").await;
    assert_eq!(beside.next().await.unwrap(), Event::Stdout("done\n".into()));
    assert_eq!(beside.next().await.unwrap(), Event::End(End::Exited(0)));

    let mut late = shell("setsid sleep 4271.6 & sleep 4271.6");
    late.timeout = Duration::from_secs(1);
    let late = sandbox.run(late, Cap(1000)).await.unwrap();
    assert_eq!(late.end, End::TimedOut);
    assert!(with("4271.6").is_empty());

    // Who stops listening.
    let mut cancelled = sandbox.start(shell("echo up; sleep 4271.7")).await.unwrap();
    assert_eq!(
        cancelled.next().await.unwrap(),
        Event::Stdout("up\n".into())
    );
    drop(cancelled);
    until("a cancelled command lives on", || with("4271.7").is_empty()).await;
}

#[tokio::test]
async fn however_a_sandbox_ends_nothing_of_it_is_left() {
    if !is_here().await {
        return;
    }
    const LEAVE: &str = "setsid -f sleep 4272.5; (setsid setsid sleep 4272.5 &)
        mkdir -p d/e; chmod 0 d/e d; ln -s / root; echo up; exec sleep 4272.5";
    async fn start(sandbox: &Sandbox) {
        let mut running = sandbox.start(shell(LEAVE)).await.unwrap();
        assert_eq!(running.next().await.unwrap(), Event::Stdout("up\n".into()));
        // Only the sandbox's end is to end it.
        std::mem::forget(running);
        until("three run", || with("sleep\u{0}4272.5").len() == 3).await;
    }
    // By its creator.
    let world = World::with(accepting());
    let (sandbox, _) = create(&world, restricted(&world)).await;
    start(&sandbox).await;
    sandbox.kill().await.unwrap();
    assert!(with("4272.5").is_empty());
    until_nothing_is_left("4272.5").await;
    // By its time.
    let (sandbox, _) = create(&world, restricted(&world)).await;
    start(&sandbox).await;
    sandbox.set_lifetime(Duration::ZERO).await.unwrap();
    until_nothing_is_left("4272.5").await;
    // By the death of its agent, which the keeper sees.
    let (sandbox, _) = create(&world, restricted(&world)).await;
    start(&sandbox).await;
    let agent = run(&sandbox, "echo $PPID").await.stdout.text();
    signal(agent.trim(), Signal::KILL);
    until_nothing_is_left("4272.5").await;
    assert_eq!(
        sandbox.start(shell("true")).await.err(),
        Some(ClientError::Gone)
    );
    // By a request to end, as a machine that shuts down sends it.
    let (sandbox, _) = create(&world, restricted(&world)).await;
    start(&sandbox).await;
    let agent = run(&sandbox, "echo $PPID").await.stdout.text();
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.trim())).unwrap();
    let keeper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    signal(keeper, Signal::TERM);
    until_nothing_is_left("4272.5").await;
    // By the service's end, without a word.
    let (sandbox, _) = create(&world, restricted(&world)).await;
    start(&sandbox).await;
    drop(world.service);
    until_nothing_is_left("4272.5").await;
}

fn signal(pid: &str, signal: Signal) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Of a service that was killed together with what keeps its sandboxes, and of one that lives.
#[tokio::test]
async fn directories_that_were_left_are_swept() {
    let place = std::env::temp_dir();
    // No process has so high a number.
    let left = place.join("pairwright-restricted-4194399-x");
    let own = place.join(format!("pairwright-restricted-{}-kept", std::process::id()));
    for directory in [&left, &own] {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(directory.join("home")).unwrap();
    }
    let _world = World::with(accepting());
    assert!(!left.exists());
    assert!(own.exists());
    fs::remove_dir_all(own).unwrap();
}

/// Too small for a machine, so that which tier it gets does not depend on there being one.
fn small(tier: Option<Tier>, min_isolation: Option<Tier>, strongest: bool) -> LocalCreate {
    LocalCreate {
        tier,
        min_isolation,
        strongest,
        limits: Some(LimitsAsked {
            memory_bytes: Some(128 << 20),
            ..LimitsAsked::default()
        }),
        ..LocalCreate::default()
    }
}

/// It is never what one gets unasked.
#[tokio::test]
async fn only_who_says_so_gets_it() {
    let world = World::with(accepting());
    // Named, and not said to be acceptable.
    let refused = world
        .client
        .create(asking(small(Some(Tier::Landlock), None, false)))
        .await;
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("at least the tier namespace"), "{why}");
    // Acceptable to who asks, and not to who runs the service.
    let strict = World::new();
    let asked = small(Some(Tier::Landlock), Some(Tier::Landlock), false);
    let refused = strict.client.create(asking(asked)).await;
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("at least the tier namespace"), "{why}");
    // What is stronger is taken wherever it can be had.
    for weakest in [None, Some(Tier::Landlock)] {
        let made = world
            .client
            .create(asking(small(None, weakest, true)))
            .await
            .unwrap();
        assert!(made.tier() > Tier::Landlock, "{}", made.label());
    }
}

/// A machine that lets nobody make namespaces, as far as it can be had: an agent that cannot.
#[tokio::test]
async fn without_namespaces_it_is_what_is_left_if_that_is_acceptable() {
    if !is_here().await {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("agent");
    let agent = options().agent.program;
    // The limit is the sandbox's own: everything below gets none.
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = sandbox-agent ]; then exec unshare -Ur sh -c \
         'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" \"$@\"' {0} \"$@\"; fi\n\
         exec {0} \"$@\"\n",
        agent.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut options = accepting();
    options.agent.program = program;
    let world = World::with(options);
    let refused = world
        .client
        .create(asking(small(None, None, true)))
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("namespaces"), "{refused}");
    let sandbox = world
        .client
        .create(asking(small(None, Some(Tier::Landlock), true)))
        .await;
    let sandbox = sandbox.unwrap();
    assert_eq!(sandbox.tier(), Tier::Landlock);
    let label = sandbox.label();
    assert!(
        label.contains("could not make user, mount, process"),
        "{label}"
    );
    assert_eq!(told(&run(&sandbox, "echo ran").await), "Exited(0)\nran\n");
}

#[tokio::test]
async fn no_host_can_be_allowed() {
    if !is_here().await {
        return;
    }
    let world = World::with(accepting());
    let mut asked = asking(restricted(&world));
    let allow_out = vec!["example.com".to_owned()];
    asked.network = Some(Network {
        allow_out: allow_out.clone(),
        ..Network::none()
    });
    let (sandbox, _) = create(&world, restricted(&world)).await;
    for refused in [
        world.client.create(asked).await.map(drop).err(),
        sandbox.set_network(allow_out).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(ClientError::Refused { status: 400, message }) if message.contains("reaches no network")),
            "{refused:?}"
        );
    }
    sandbox.set_network(Vec::new()).await.unwrap();
    assert_eq!(sandbox.network(), Some(Vec::new()));
}

#[tokio::test]
async fn toolchains_are_found_where_they_are_and_cannot_be_written() {
    if !is_here().await {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    for (path, text) in [
        (
            ".cargo/bin/tool",
            "#!/bin/sh\necho tool; cat \"$CARGO_HOME/registry/crate\"\n",
        ),
        (".cargo/registry/crate", "a crate\n"),
        (".cargo/credentials.toml", "hush"),
        (".ssh/id_ed25519", "hush"),
    ] {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let search = std::env::join_paths([home.join(".cargo/bin"), "/usr/bin".into()]).unwrap();
    let mut options = accepting();
    options.host = service::Host::find(Some(&home), Some(&search));
    let world = World::with(options);
    let (sandbox, _) = create(&world, restricted(&world)).await;
    let at = home.display();
    let script = format!(
        "tool; cat {at}/.cargo/credentials.toml {at}/.ssh/id_ed25519 $CARGO_HOME/credentials.toml
        echo x > $CARGO_HOME/registry/crate; rm -f $CARGO_HOME/registry/crate $CARGO_HOME/bin/tool
        chmod 777 $CARGO_HOME/registry/crate; touch $CARGO_HOME/own && echo own"
    );
    let ran = run(&sandbox, &script).await;
    assert_eq!(ran.stdout.text(), "tool\na crate\nown\n", "{}", told(&ran));
    assert!(!told(&ran).contains("hush"));
    let left = home.join(".cargo/registry/crate");
    assert_eq!(fs::read_to_string(&left).unwrap(), "a crate\n");
    assert_eq!(left.metadata().unwrap().mode() & 0o777, 0o755);
}

/// Many threads ask for modes at a time, and of those that are killed nobody waits for an answer.
#[tokio::test]
async fn modes_are_changed_by_many_at_a_time() {
    if !is_here().await {
        return;
    }
    let world = World::with(accepting());
    let (sandbox, _) = create(&world, restricted(&world)).await;
    let script = "python3 -c \"
import os, threading
def work(n):
    for i in range(200):
        f='%d-%d'%(n,i); open(f,'w').close(); os.chmod(f,0o600|i%64); assert os.stat(f).st_mode&0o777==0o600|i%64
all=[threading.Thread(target=work,args=(n,)) for n in range(8)]
[t.start() for t in all]; [t.join() for t in all]; print(len(os.listdir('.'))>=1600)\"
        for n in $(seq 50); do (while :; do chmod 600 0-0; done) & kill -9 $!; done; : > own; chmod 640 own; stat -c %a own";
    assert_eq!(told(&run(&sandbox, script).await), "Exited(0)\nTrue\n640\n");
}
