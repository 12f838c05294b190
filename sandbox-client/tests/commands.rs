//! Commands: what they say, how they end, and that nothing of them stays.

use std::time::{Duration, Instant};

use sandbox_client::client::{ClientError, End, Event, Stdin};
use sandbox_client::output::Cap;

use crate::world::{World, run, shell, told};

#[tokio::test]
async fn output_and_exit_come_back_with_the_tier_it_ran_in() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let finished = run(&sandbox, "echo out; echo err >&2; exit 3").await;
    assert_eq!(told(&finished), "Exited(3)\nout\nerr\n");
    assert_eq!(finished.tier.label(), "Process sandbox: shares your kernel");
    let killed = run(&sandbox, "kill -SEGV $$").await;
    assert_eq!(
        killed.end,
        End::Killed("signal: segmentation fault".to_owned())
    );
}

#[tokio::test]
async fn every_command_wears_all_filters_and_only_once() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    for _ in 0..3 {
        let finished = run(&sandbox, "grep -E '^(Seccomp|NoNew)' /proc/self/status").await;
        let worn = "Exited(0)\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t5\n";
        assert_eq!(told(&finished), worn);
    }
}

#[tokio::test]
async fn input_is_read_until_it_is_closed() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let mut command = shell("tr a-z A-Z; echo over");
    command.input = Stdin::Piped;
    let mut running = sandbox.start(command).await.unwrap();
    running.write(b"first ".to_vec()).await.unwrap();
    running.write(b"second ".to_vec()).await.unwrap();
    running.close_input().await.unwrap();
    let mut output = Vec::new();
    loop {
        match running.next().await.unwrap() {
            Event::Stdout(bytes) => output.extend_from_slice(&bytes),
            Event::Stderr(bytes) => panic!("{bytes:?}"),
            Event::End(end) => {
                assert_eq!(end, End::Exited(0));
                break;
            }
        }
    }
    assert_eq!(output, b"FIRST SECOND over\n");
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why_and_the_sandbox_goes_on() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let mut absent = shell("");
    absent.program = "no-such-program".to_owned();
    let error = sandbox.run(absent, Cap(100)).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { message, .. } if message.contains("no-such-program")),
        "{error}"
    );
    let mut nowhere = shell("pwd");
    nowhere.directory = Some("/no/such/place".to_owned());
    let error = sandbox.run(nowhere, Cap(100)).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { message, .. } if message.contains("/no/such/place")),
        "{error}"
    );
    assert_eq!(told(&run(&sandbox, "echo on").await), "Exited(0)\non\n");
}

/// Commands that leave something running in every way there is.
const STAYERS: [&str; 4] = [
    "sleep 300 & exit 0",
    "(setsid sleep 300 >/dev/null 2>&1 &) ; exit 0",
    "nohup sh -c 'trap \"\" TERM HUP; while :; do sleep 300; done' >/dev/null 2>&1 & exit 0",
    "setsid sh -c 'setsid sh -c \"sleep 300 & sleep 300\" & wait' & exit 0",
];

#[tokio::test]
async fn nothing_a_command_started_outlives_it() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    for stayer in STAYERS {
        run(&sandbox, stayer).await;
        let left = run(&sandbox, "cat /proc/[0-9]*/comm | sort | uniq -c").await;
        assert!(
            !left.stdout.text().contains("sleep"),
            "{stayer}: {}",
            told(&left)
        );
    }
}

#[tokio::test]
async fn other_commands_live_on_when_one_is_killed() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let mut stays = sandbox
        .start(shell("echo up; (setsid sleep 2); echo done"))
        .await
        .unwrap();
    assert_eq!(stays.next().await.unwrap(), Event::Stdout("up\n".into()));
    let mut goes = sandbox.start(shell("setsid sleep 300")).await.unwrap();
    goes.kill().await.unwrap();
    assert!(matches!(goes.next().await.unwrap(), Event::End(_)));
    assert_eq!(stays.next().await.unwrap(), Event::Stdout("done\n".into()));
    assert_eq!(stays.next().await.unwrap(), Event::End(End::Exited(0)));
}

#[tokio::test]
async fn a_command_whose_time_is_over_is_killed_with_all_of_it() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let mut command = shell("echo begun; setsid sleep 300 & sleep 300");
    command.timeout = Duration::from_millis(600);
    let started = Instant::now();
    let finished = sandbox.run(command, Cap(100)).await.unwrap();
    assert_eq!(told(&finished), "TimedOut\nbegun\n");
    assert!(started.elapsed() < Duration::from_secs(10));
    let left = run(&sandbox, "cat /proc/[0-9]*/comm").await;
    assert!(!left.stdout.text().contains("sleep"), "{}", told(&left));
}

#[tokio::test]
async fn a_dropped_command_is_killed() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let running = sandbox
        .start(shell("echo $$; exec sleep 300"))
        .await
        .unwrap();
    let pid = running.pid();
    drop(running);
    let waits = format!("while [ -e /proc/{pid} ]; do :; done; echo gone");
    assert_eq!(told(&run(&sandbox, &waits).await), "Exited(0)\ngone\n");
}

#[tokio::test]
async fn output_without_end_keeps_its_head_and_tail() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let script = "echo first; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo last";
    let finished = sandbox.run(shell(script), Cap(1000)).await.unwrap();
    let text = finished.stdout.text();
    assert!(text.starts_with("first\nxxx") && text.ends_with("xxx\nlast\n"));
    assert_eq!(finished.stdout.total(), 30_000_000 + 12);
    assert_eq!(finished.stdout.elided(), 30_000_012 - 2000);
    assert!(text.contains("[29998012 bytes left out]"), "{}", text.len());
}

#[tokio::test]
async fn a_hundred_commands_at_once_are_not_mixed_up() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let all = (0..100).map(|n| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { (n, run(&sandbox, &format!("echo {n}; exit {n}")).await) })
    });
    for one in all.collect::<Vec<_>>() {
        let (n, finished) = one.await.unwrap();
        assert_eq!(told(&finished), format!("Exited({n})\n{n}\n"));
    }
}

/// A connection with too many small pieces that nobody has read is taken for an attack.
#[tokio::test]
async fn output_in_many_small_pieces_waits_for_a_slow_reader() {
    const PIECES: usize = 16_000;
    let world = World::new();
    let sandbox = world.sandbox().await;
    let script = format!(
        "python3 -c \"
import fcntl, os, termios
for n in range({PIECES}):
    os.write(1, b'x')
    while any(fcntl.ioctl(1, termios.FIONREAD, bytes(4))):
        os.sched_yield()\"
: > written"
    );
    let mut running = sandbox.start(shell(&script)).await.unwrap();
    // Only now is any of it read.
    let waited = run(&sandbox, "until [ -e written ]; do sleep 0.05; done").await;
    assert_eq!(waited.end, End::Exited(0));
    let mut n_said = 0;
    loop {
        match running.next().await.unwrap() {
            Event::Stdout(bytes) => n_said += bytes.len(),
            Event::Stderr(bytes) => panic!("{bytes:?}"),
            Event::End(end) => {
                assert_eq!(end, End::Exited(0));
                break;
            }
        }
    }
    assert_eq!(n_said, PIECES);
}

/// As in a pager: far longer than the command and its answer may take.
#[tokio::test]
async fn who_reads_only_when_its_time_is_over_still_reads_how_it_ended() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let mut command = shell("head -c 64M /dev/zero");
    command.timeout = Duration::from_secs(1);
    let mut running = sandbox.start(command).await.unwrap();
    // Longer than a service's answer is waited for, and with it longer than anything is passed on.
    run(&sandbox, "sleep 8").await;
    let mut n_said = 0;
    loop {
        match running.next().await.unwrap() {
            Event::Stdout(bytes) => n_said += bytes.len(),
            Event::Stderr(bytes) => panic!("{bytes:?}"),
            Event::End(end) => {
                assert_eq!(end, End::TimedOut);
                break;
            }
        }
    }
    assert!(n_said > 1 << 20, "{n_said}");
}
