//! Where the machine lacks something: what is said, and that nothing runs with less than is said.
//!
//! Each is made by namespaces of the test's own, in which something is taken away. Where the test
//! may not make them it has nothing to show.

use std::process::Output;

use crate::world::World;

/// Runs `pairwright sandbox run -- echo here` after `preparation`, a line for the shell, as root of a
/// user and mount namespace.
fn run(world: &World, preparation: &str) -> Option<Output> {
    let may = world.command(&["--version"]);
    let program = may.get_program().to_str().unwrap().to_owned();
    let line = format!("{preparation} && exec {program} sandbox run -- echo here");
    #[expect(
        clippy::disallowed_methods,
        reason = "takes something away from the program"
    )]
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-U", "-r", "-m", "--", "/bin/sh", "-c", &line])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", world.home())
        .current_dir(world.root());
    let output = command.output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("unshare:") {
        assert!(std::env::var_os("CI").is_none(), "{told}");
        eprintln!("not tested: {told}");
        return None;
    }
    Some(output)
}

#[test]
fn without_user_namespaces_nothing_runs_and_the_next_step_is_named() {
    let world = World::knowing();
    let none = "echo 0 > /proc/sys/user/max_user_namespaces";
    let Some(output) = run(&world, none) else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(
        told.contains("this machine does not allow a sandbox"),
        "{told}"
    );
    assert!(told.contains("namespaces"), "{told}");
    assert!(told.contains("pairwright sandbox doctor"), "{told}");
}

#[test]
fn without_control_groups_the_label_says_what_is_best_effort() {
    let world = World::knowing();
    let none = "mount -t tmpfs none /sys/fs/cgroup";
    let Some(output) = run(&world, none) else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{told}");
    for words in [
        "memory limit: best effort",
        "process limit: best effort",
        "no processor limit",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_home_that_cannot_be_written_is_no_reason_to_refuse() {
    let world = World::knowing();
    let home = world.home();
    let home = home.to_str().unwrap();
    let read_only = format!("mount --bind {home} {home} && mount -o remount,bind,ro {home}");
    let Some(output) = run(&world, &read_only) else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{told}");
    assert!(told.contains("shares your kernel"), "{told}");
}
