//! Clones that wait, those that nobody wants any more, and those that do not go on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use sandbox_client::client::{ClientError, Event, Sandbox};
use sandbox_client::protocol::{LimitsAsked, LocalCreate};

use crate::machine::{emulated, monitors_with, until_there_are, with_machines};
use crate::machines::groups;
use crate::world::{World, asking, run, shell, told};

/// A service that holds one clone ready, with templates of its own where `state` is one.
fn with_one_ready(state: Option<&Path>) -> Option<World> {
    let mut options = with_machines()?;
    options.ready = 1;
    if let Some(state) = state {
        options.state = Some(state.to_owned());
    }
    Some(World::with(options))
}

fn of_memory(world: &World, memory: u64) -> LocalCreate {
    LocalCreate {
        limits: Some(LimitsAsked {
            memory_bytes: Some(memory << 20),
            ..LimitsAsked::default()
        }),
        ..emulated(world)
    }
}

async fn create(world: &World, memory: u64) -> Sandbox {
    let local = of_memory(world, memory);
    world.client.create(asking(local)).await.unwrap()
}

/// Waits until there are so many control groups.
async fn until_there_are_groups(wanted: usize) {
    let there = async {
        while groups(std::process::id()).len() != wanted {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), there).await;
    found.unwrap_or_else(|_| {
        panic!(
            "{wanted} groups were wanted: {:?}",
            groups(std::process::id())
        )
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_that_alternate_leave_no_machine_and_no_group() {
    const MEMORIES: [u64; 2] = [334, 512];
    let Some(world) = with_one_ready(None) else {
        return;
    };
    // Of one sandbox, none of which waits: the number differs from machine to machine.
    let first = create(&world, MEMORIES[0]).await;
    until_there_are(2, MEMORIES[0]).await;
    let n_groups = groups(std::process::id()).len() / 2;
    first.kill().await.unwrap();
    for round in 0..2 {
        for (memory, other) in [(MEMORIES[1], MEMORIES[0]), (MEMORIES[0], MEMORIES[1])] {
            let sandbox = create(&world, memory).await;
            let said = told(&run(&sandbox, &format!("echo {round}")).await);
            assert_eq!(said, format!("Exited(0)\n{round}\n"));
            // This one and the next of its kind, and none of the kind before.
            until_there_are(0, other).await;
            until_there_are(2, memory).await;
            until_there_are_groups(2 * n_groups).await;
            sandbox.kill().await.unwrap();
        }
    }
    until_there_are(1, MEMORIES[0]).await;
    until_there_are_groups(n_groups).await;
    world.service.stop().await;
    until_there_are(0, MEMORIES[0]).await;
    until_there_are_groups(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_died_or_hangs_costs_its_template_nothing() {
    const MEMORY: u64 = 335;
    let state = tempfile::tempdir().unwrap();
    let Some(world) = with_one_ready(Some(state.path())) else {
        return;
    };
    let templates = || {
        let all = fs::read_dir(state.path().join("machines")).unwrap();
        let manifests = all.map(|entry| entry.unwrap().path().join("manifest.json"));
        let contents = manifests.map(|path| fs::read_to_string(path).unwrap());
        contents.collect::<Vec<_>>()
    };
    let first = create(&world, MEMORY).await;
    assert!(!first.label().contains("booted"), "{}", first.label());
    until_there_are(2, MEMORY).await;
    // It was made before the one that waits.
    let own = monitors_with(MEMORY)
        .into_iter()
        .min_by_key(|pid| pid.as_raw_nonzero());
    let template = templates();
    assert_eq!(template.len(), 1);
    let waiting = || {
        let mut waiting = monitors_with(MEMORY);
        waiting.retain(|pid| Some(*pid) != own);
        waiting[0]
    };

    // As the kernel kills it when memory is short.
    kill_process(waiting(), Signal::KILL).unwrap();
    let second = create(&world, MEMORY).await;
    assert!(!second.label().contains("booted"), "{}", second.label());
    assert_eq!(told(&run(&second, "echo on").await), "Exited(0)\non\n");
    assert_eq!(templates(), template);
    second.kill().await.unwrap();

    // As on a computer that has no time for it.
    until_there_are(2, MEMORY).await;
    kill_process(waiting(), Signal::STOP).unwrap();
    let third = create(&world, MEMORY).await;
    let label = third.label();
    let slow = "booted, not cloned: QEMU did not answer within 20 s; the template is kept";
    assert!(label.contains(slow), "{label}");
    assert_eq!(templates(), template);
    third.kill().await.unwrap();
    let fourth = create(&world, MEMORY).await;
    assert!(!fourth.label().contains("booted"), "{}", fourth.label());
    assert_eq!(templates(), template);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_caller_left_while_it_was_made_is_no_more() {
    const MEMORY: u64 = 337;
    let state = tempfile::tempdir().unwrap();
    let Some(world) = with_one_ready(Some(state.path())) else {
        return;
    };
    let (client, local) = (world.client.clone(), of_memory(&world, MEMORY));
    let making = tokio::spawn(async move { client.create(asking(local)).await });
    until_there_are(1, MEMORY).await;
    making.abort();
    until_there_are(0, MEMORY).await;
    until_there_are_groups(0).await;
    assert!(world.client.list().await.unwrap().is_empty());
    // Who comes next is not told of it.
    let sandbox = create(&world, MEMORY).await;
    assert!(!sandbox.label().contains("booted"), "{}", sandbox.label());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_stops_answering_is_an_error_in_time_and_can_be_killed() {
    const MEMORY: u64 = 512;
    let Some(options) = with_machines() else {
        return;
    };
    let world = World::with(options);
    let sandbox = create(&world, MEMORY).await;
    let mut command = shell("echo up; sleep 300");
    command.timeout = Duration::from_secs(2);
    let mut running = sandbox.start(command).await.unwrap();
    assert_eq!(running.next().await, Ok(Event::Stdout("up\n".into())));
    kill_process(monitors_with(MEMORY)[0], Signal::STOP).unwrap();
    let silent = running.next().await;
    assert!(matches!(silent, Err(ClientError::Silent(_))), "{silent:?}");
    sandbox.kill().await.unwrap();
    until_there_are(0, MEMORY).await;
    until_there_are_groups(0).await;
}
