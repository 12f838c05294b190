//! A service that is killed on the spot leaves nothing behind when the next has started.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox_client::client::{Address, Addressing, Client, Endpoint};
use sandbox_client::protocol::{Create, LimitsAsked, LocalCreate};
use sandbox_client::tier::Tier;

use crate::machines::groups;
use crate::sandboxd::Sandboxd;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again, as the kernel tells nobody.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Fields of a process after its name, from its state on. `None` when it is dead.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<String> = fields.split(' ').map(str::to_owned).collect();
    // One that nobody has waited for is dead too.
    (fields[0] != "Z" && fields[0] != "X").then_some(fields)
}

/// The living processes below one, itself left out.
fn below(ancestor: u32) -> BTreeSet<u32> {
    let parent = |pid: &u32| fields(*pid)?.get(1)?.parse::<u32>().ok();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_below =
        |pid: &u32| std::iter::successors(parent(pid), parent).any(|pid| pid == ancestor);
    pids.filter(is_below).collect()
}

/// How many of these processes were started with something.
fn count(processes: &BTreeSet<u32>, with: &str) -> usize {
    let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_one = |pid: &&u32| String::from_utf8_lossy(&line(pid)).contains(with);
    processes.iter().filter(is_one).count()
}

fn files(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

fn service(world: &World, kernel: &Path, own: &Path) -> Sandboxd {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (socket, key) = (path(&own.join("sandboxd")), path(&own.join("key")));
    let arguments = ["--ready", "1", "--listen", &socket, "--key-file", &key];
    Sandboxd::start(
        world,
        &[&arguments[..], &["--kernel", &path(kernel)]].concat(),
    )
}

#[test]
fn a_service_killed_with_machines_that_run_and_wait_leaves_nothing() {
    let Some(kernel) = crate::machines::kernel() else {
        return;
    };
    let world = World::knowing();
    let own = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut first = service(&world, &kernel, own.path());
    let endpoint = Endpoint {
        address: Address::Unix(own.path().join("sandboxd")),
        key: fs::read_to_string(own.path().join("key"))
            .unwrap()
            .trim()
            .to_owned(),
        addressing: Addressing::Header,
    };
    let client = Client::new(endpoint).unwrap();
    let ask = |tier| Create {
        template_id: "base".to_owned(),
        timeout: Some(300),
        pairwright: Some(LocalCreate {
            tier: Some(tier),
            limits: Some(LimitsAsked {
                memory_bytes: Some(336 << 20),
                ..LimitsAsked::default()
            }),
            ..LocalCreate::default()
        }),
        ..Create::default()
    };
    let has_gvisor = Path::new("/usr/bin/runsc").exists();
    let tiers = [Tier::Namespace, Tier::Gvisor, Tier::VmEmulated];
    for tier in tiers {
        if tier == Tier::Gvisor && !has_gvisor {
            continue;
        }
        let made = runtime.block_on(client.create(ask(tier)));
        assert_eq!(made.unwrap().tier(), tier);
    }
    let pid = first.id();
    let processes = until("one machine runs and one waits", || {
        let processes = below(pid);
        (count(&processes, "\0-incoming\0") == 2).then_some(processes)
    });
    assert_eq!(count(&processes, "runsc-sandbox") > 0, has_gvisor);
    let n_groups = groups(pid).len();
    first.kill();
    until("a process lives on", || {
        processes
            .iter()
            .all(|pid| fields(*pid).is_none())
            .then_some(())
    });

    let _second = service(&world, &kernel, own.path());
    assert_eq!(groups(pid), [""; 0].map(PathBuf::from), "of {n_groups}");
    assert_eq!(mounts(), before);
    let machines = files(&world.log_file().with_file_name("machines"));
    let half_made: Vec<_> = machines
        .iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(half_made.is_empty(), "{half_made:?}");
    // The next goes on from what the first had written down.
    let made = runtime
        .block_on(client.create(ask(Tier::VmEmulated)))
        .unwrap();
    assert!(!made.label().contains("booted"), "{}", made.label());
    runtime.block_on(made.kill()).unwrap();
}
