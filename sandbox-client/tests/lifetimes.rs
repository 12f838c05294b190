//! Who may use a sandbox, when it ends, and that nothing of it stays.

use std::fs;
use std::time::Duration;

use sandbox_client::client::{Client, ClientError, Event};
use sandbox_client::protocol::{Create, LocalCreate, Network};
use sandbox_client::service::{Service, Workspaces};
use sandbox_client::tier::Tier;

use crate::world::{World, asking, options, run, shell};

/// Waits until a process of the machine has `word` in its command line, or none has any more. The
/// system tells nobody, so it is asked again and again.
async fn until_it_runs(word: &str, is_running: bool) {
    let looks = async {
        while running(word) != is_running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looks)
        .await
        .unwrap_or_else(|_| panic!("a process of the sandbox runs: {}", !is_running));
}

fn running(word: &str) -> bool {
    let commands = fs::read_dir("/proc").unwrap().flatten();
    let mut commands = commands.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands.any(|line| String::from_utf8_lossy(&line).contains(word))
}

/// A command that runs until it is killed and can be found from outside by `word`.
async fn sleeper(world: &World, word: &str) -> sandbox_client::client::Sandbox {
    let sandbox = world.sandbox().await;
    let script = format!("echo up; exec sleep {word}");
    let mut running = sandbox.start(shell(&script)).await.unwrap();
    assert_eq!(running.next().await.unwrap(), Event::Stdout("up\n".into()));
    // Only the sandbox's end is to end it.
    std::mem::forget(running);
    sandbox
}

#[tokio::test]
async fn a_sandbox_that_is_killed_leaves_no_process_and_is_gone() {
    let world = World::new();
    let sandbox = sleeper(&world, "301.0001").await;
    // While one program takes the place of another, it has no command line.
    until_it_runs("301.0001", true).await;
    sandbox.kill().await.unwrap();
    until_it_runs("301.0001", false).await;
    assert_eq!(
        sandbox.start(shell("true")).await.err(),
        Some(ClientError::Gone)
    );
    sandbox.kill().await.unwrap();
    assert!(world.client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_service_that_stops_takes_its_sandboxes_along() {
    let world = World::new();
    sleeper(&world, "301.0002").await;
    world.service.stop().await;
    until_it_runs("301.0002", false).await;
}

#[tokio::test]
async fn a_sandbox_ends_when_its_time_is_over() {
    let world = World::new();
    let sandbox = sleeper(&world, "301.0003").await;
    assert_eq!(world.client.list().await.unwrap().len(), 1);
    sandbox.set_lifetime(Duration::ZERO).await.unwrap();
    until_it_runs("301.0003", false).await;
}

#[tokio::test]
async fn a_sandbox_can_be_taken_up_again_by_its_id() {
    let world = World::new();
    let first = world.sandbox().await;
    run(&first, "echo kept > /tmp/note").await;
    let hour = Duration::from_secs(3600);
    let again = world.client.connect(first.id(), hour).await.unwrap();
    assert_eq!(run(&again, "cat /tmp/note").await.stdout.text(), "kept\n");
    let absent = world.client.connect("0123", hour).await.err();
    assert!(matches!(
        absent,
        Some(ClientError::Refused { status: 404, .. })
    ));
}

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let world = World::new();
    world.sandbox().await;
    let mut endpoint = world.service.endpoint().clone();
    endpoint.key.pop();
    let stranger = Client::new(endpoint).unwrap();
    for refused in [
        stranger.list().await.err(),
        stranger.create(Create::default()).await.err(),
    ] {
        assert!(
            matches!(refused, Some(ClientError::Refused { status: 401, .. })),
            "{refused:?}"
        );
    }
    assert_eq!(world.client.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_with_words() {
    let mut closed = options();
    closed.workspaces = Workspaces::None;
    let (world, closed) = (World::new(), World::with(closed));
    let with = |change: fn(&mut Create)| {
        let mut create = asking(LocalCreate::default());
        change(&mut create);
        create
    };
    let cases = [
        (
            &world,
            with(|c| c.template_id = "../../x".into()),
            "no template",
        ),
        (
            &world,
            with(|c| _ = c.env_vars.insert("A=B".into(), "x".into())),
            "environment variable",
        ),
        (
            &world,
            with(|c| {
                let allow_out = vec!["*.com".into()];
                c.network = Some(Network {
                    allow_out,
                    ..Network::none()
                });
            }),
            "too wide",
        ),
        (
            &world,
            with(|c| c.pairwright.as_mut().unwrap().workspace = Some("/".into())),
            "cannot be shown",
        ),
        (
            &world,
            with(|c| c.pairwright.as_mut().unwrap().workspace = Some("/tmp/../etc".into())),
            "cannot be shown",
        ),
        (
            &closed,
            with(|c| c.pairwright.as_mut().unwrap().read_roots = vec!["/etc".into()]),
            "shows no directories",
        ),
        (
            &world,
            with(|c| c.pairwright.as_mut().unwrap().min_isolation = Some(Tier::Remote)),
            "at least",
        ),
    ];
    for (world, create, words) in cases {
        let refused = world.client.create(create).await.err();
        assert!(
            matches!(&refused, Some(ClientError::Refused { message, .. }) if message.contains(words)),
            "{words}: {refused:?}"
        );
        assert!(world.client.list().await.unwrap().is_empty(), "{words}");
    }
}

#[tokio::test]
async fn fifty_sandboxes_at_once_leave_nothing() {
    let world = World::new();
    let all = (0..50).map(|n| {
        let client = world.client.clone();
        tokio::spawn(async move {
            let sandbox = client.create(asking(LocalCreate::default())).await.unwrap();
            let script = format!("setsid sleep 301.0004 & echo {n} > /tmp/own; cat /tmp/own");
            let said = run(&sandbox, &script).await.stdout.text();
            sandbox.kill().await.unwrap();
            (n, said)
        })
    });
    for one in all.collect::<Vec<_>>() {
        let (n, said) = one.await.unwrap();
        assert_eq!(said, format!("{n}\n"));
    }
    until_it_runs("301.0004", false).await;
    assert!(world.client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn those_that_are_being_made_count_as_well() {
    let mut few = options();
    few.sandboxes = 2;
    let world = World::with(few);
    let all = (0..8).map(|_| {
        let client = world.client.clone();
        tokio::spawn(async move { client.create(asking(LocalCreate::default())).await })
    });
    let mut made = Vec::new();
    for one in all.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(sandbox) => made.push(sandbox),
            Err(ClientError::Refused { .. }) => {}
            Err(why) => panic!("{why}"),
        }
    }
    assert_eq!(made.len(), 2);
    assert_eq!(world.client.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn dropping_a_service_destroys_its_sandboxes() {
    let World {
        service, client, ..
    } = World::new();
    let sandbox = client.create(asking(LocalCreate::default())).await.unwrap();
    let _running = sandbox.start(shell("sleep 302.0005")).await.unwrap();
    until_it_runs("302.0005", true).await;
    drop(service);
    until_it_runs("302.0005", false).await;
}

#[tokio::test]
async fn a_socket_can_be_listened_on_again_and_not_by_two_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sandboxd");
    let first = Service::start_unix(path.clone(), options()).unwrap();
    assert!(Service::start_unix(path.clone(), options()).is_err());
    assert!(path.exists());
    first.stop().await;
    assert!(!path.exists());
    // As a service that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let second = Service::start_unix(path.clone(), options()).unwrap();
    Client::new(second.endpoint().clone())
        .unwrap()
        .list()
        .await
        .unwrap();
}
