//! A sandbox at a prompt.

#[cfg(target_arch = "x86_64")]
mod kill;
mod restricted;
mod without;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::world::World;

fn run(world: &World, root: &Path, arguments: &[&str], script: &str) -> Output {
    let root = root.to_str().unwrap();
    let before = ["sandbox", "run", "--root", root];
    let after = ["--", "/bin/sh", "-c", script];
    world
        .command(&[&before[..], arguments, &after[..]].concat())
        .output()
        .unwrap()
}

#[test]
fn a_command_runs_and_its_changes_are_shown_but_not_made() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("a.txt"), "one\n").unwrap();
    fs::write(workspace.path().join(".env"), "TOKEN=hush\n").unwrap();
    fs::create_dir_all(workspace.path().join(".git/objects")).unwrap();
    fs::write(workspace.path().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    let settings = "[http]\n\textraheader = AUTHORIZATION: basic aHVzaA\n";
    fs::write(workspace.path().join(".git/config"), settings).unwrap();
    let script =
        "cat .env .git/config; echo said; sed -i s/one/two/ a.txt; echo x > build.rs; exit 3";
    let output = run(&world, workspace.path(), &[], script);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "said\na.txt changed\n@@ -1,1 +1,1 @@\n-one\n+two\n\
         build.rs new runs on your machine\n@@ -1,0 +1,1 @@\n+x\n"
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("shares your kernel"), "{told}");
    assert!(told.contains("a password: .git/config"), "{told}");
    assert_eq!(output.status.code(), Some(3));
    let left = fs::read_to_string(workspace.path().join("a.txt")).unwrap();
    assert_eq!(left, "one\n");
    assert!(!workspace.path().join("build.rs").exists());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_command_runs_in_a_machine_with_a_kernel_of_its_own_and_its_changes_are_shown() {
    let Some(kernel) = crate::machines::kernel() else {
        return;
    };
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("a.txt"), "one\n").unwrap();
    fs::write(workspace.path().join(".env"), "TOKEN=hush\n").unwrap();
    let machine = ["--tier", "vm-emulated", "--memory", "512", "--kernel"];
    let arguments = [&machine[..], &[kernel.to_str().unwrap()]].concat();
    let script = "cat .env; uname -r; sed -i s/one/two/ a.txt; echo x > build.rs; exit 3";
    let output = run(&world, workspace.path(), &arguments, script);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("Virtual machine (emulated"), "{told}");
    let name = kernel.file_name().unwrap().to_str().unwrap();
    let version = name.strip_prefix("vmlinuz-").unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "{version}\na.txt changed\n@@ -1,1 +1,1 @@\n-one\n+two\n\
             build.rs new runs on your machine\n@@ -1,0 +1,1 @@\n+x\n"
        )
    );
    let left = fs::read_to_string(workspace.path().join("a.txt")).unwrap();
    assert_eq!(left, "one\n");
    // The next goes on from where the first had booted, and asks the same proxy for hosts.
    let ask = "exec 3<>/dev/tcp/127.0.0.1/3128\n\
               printf 'GET http://other.invalid/ HTTP/1.1\\r\\nHost: other.invalid\\r\\n\\r\\n' >&3\n\
               head -n 1 <&3\n";
    fs::write(workspace.path().join("ask.sh"), ask).unwrap();
    let arguments = [&arguments[..], &["--net", "host.invalid"]].concat();
    let output = run(&world, workspace.path(), &arguments, "bash ask.sh");
    let told = String::from_utf8(output.stderr).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("403 Forbidden"), "{said}{told}");
    assert!(told.contains("denied: other.invalid:80"), "{told}");
    assert!(!told.contains("booted"), "{told}");
}

#[test]
fn a_command_runs_under_gvisors_kernel_and_its_changes_and_denials_are_shown() {
    if !Path::new("/usr/bin/runsc").exists() {
        assert!(std::env::var_os("CI").is_none(), "there is not runsc");
        return;
    }
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("a.txt"), "one\n").unwrap();
    fs::write(workspace.path().join(".env"), "TOKEN=hush\n").unwrap();
    fs::write(workspace.path().join("ask.py"), ASK).unwrap();
    let arguments = ["--tier", "gvisor", "--net", "host.invalid"];
    let script = "cat .env; sed -i s/one/two/ a.txt; python3 ask.py http://evil.test/; exit 3";
    let output = run(&world, workspace.path(), &arguments, script);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("User-space kernel (gVisor)"), "{told}");
    assert!(told.contains("denied: evil.test:80"), "{told}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "403 not-allowed\na.txt changed\n@@ -1,1 +1,1 @@\n-one\n+two\n",
        "{told}"
    );
    let left = fs::read_to_string(workspace.path().join("a.txt")).unwrap();
    assert_eq!(left, "one\n");
}

#[test]
fn the_strongest_sandbox_there_is_says_what_there_is_not_and_keeps_it_in_mind() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    let machine = "--tier auto --qemu /usr/bin/true --kernel /usr/bin/true --runsc /usr/bin/true";
    let arguments: Vec<&str> = machine.split(' ').collect();
    let output = run(&world, workspace.path(), &arguments, "echo here");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{told}");
    assert!(told.contains("shares your kernel"), "{told}");
    assert!(told.contains("no sandbox of the tier vm: "), "{told}");
    let kept = world.log_file().with_file_name("sandbox-tiers.json");
    let kept = fs::read_to_string(kept).unwrap();
    assert!(
        kept.contains("\"vm\"") && kept.contains("\"gvisor\""),
        "{kept}"
    );
}

#[test]
fn the_doctor_says_of_every_tier_whether_it_is_there_and_why_not() {
    let world = World::knowing();
    let nowhere = "--qemu /nowhere/qemu --kernel /nowhere/kernel --runsc /nowhere/runsc";
    let nowhere: Vec<&str> = nowhere.split(' ').collect();
    let arguments = [&["sandbox", "doctor", "--json"][..], &nowhere].concat();
    let output = world.command(&arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tier"], "namespace");
    let problems: Vec<(&str, &str)> = report["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let name = found["tier"].as_str().unwrap();
            (name, found["problem"].as_str().unwrap_or_default())
        })
        .collect();
    let names: Vec<&str> = problems.iter().map(|(name, _)| *name).collect();
    let all = ["namespace", "gvisor", "vm", "vm-emulated", "landlock"];
    assert_eq!(names, all);
    for (name, problem) in problems {
        let words = match name {
            "namespace" | "landlock" => "",
            "gvisor" => "gVisor is not at /nowhere/runsc",
            "vm" | "vm-emulated" => "there is no sandbox of the tier",
            _ => "no such tier",
        };
        assert!(problem.contains(words), "{name}: {problem}");
        assert_eq!(problem.is_empty(), words.is_empty(), "{name}: {problem}");
    }
}

#[test]
fn programs_get_json_lines_with_the_tier() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    let output = run(
        &world,
        workspace.path(),
        &["--json"],
        "echo said; echo n > new",
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["stdout"], "said\n");
    let last = lines.last().unwrap();
    assert_eq!(last["end"]["exited"], 0);
    assert_eq!(last["tier"], "namespace");
    assert_eq!(last["changes"]["files"][0]["path"], "new");
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_a_code_of_its_own() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    let output = run(&world, workspace.path(), &["--timeout", "1"], "sleep 300");
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn a_folder_with_a_mount_in_it_gets_no_sandbox_and_is_told_why() {
    let workspace = tempfile::tempdir().unwrap();
    let mount = workspace.path().canonicalize().unwrap().join("tar get");
    fs::create_dir(&mount).unwrap();
    let Some(world) = World::knowing().with_mount_on(&mount) else {
        return;
    };
    let output = run(&world, workspace.path(), &[], "true");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    let why = format!("in which {} is mounted: unmount that", mount.display());
    assert!(told.contains(&why), "{told}");
}

#[test]
fn more_than_a_sandbox_can_have_is_an_error_rather_than_less() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    for (option, value) in [
        ("--timeout", "3601"),
        ("--timeout", "18446744073709551615"),
        ("--memory", "17592186044416"),
        ("--disk", "0"),
        ("--processors", "65"),
    ] {
        let output = run(&world, workspace.path(), &[option, value], "true");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {told}");
        assert!(told.contains("is not in 1..="), "{told}");
    }
}

#[test]
fn the_service_refuses_to_be_reached_by_others_and_keys_that_others_can_read() {
    let world = World::knowing();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    let key_text = key.to_str().unwrap();
    let start = |listen: &str| {
        let arguments = ["sandboxd", "--listen", listen, "--key-file", key_text];
        let output = world.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(start("0.0.0.0:0").contains("can be reached by others"));
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(start("127.0.0.1:0").contains("can be read by others"));
}

/// Asks the proxy inside for an address, in plain HTTP.
const ASK: &str = "
import sys, urllib.error, urllib.request
try: print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
except urllib.error.HTTPError as error: print(error.code, error.headers.get('x-sandbox-deny'))
";

#[test]
fn what_a_command_may_not_reach_is_told_with_what_would_allow_it() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("ask.py"), ASK).unwrap();
    let script = "python3 ask.py http://evil.test/; python3 ask.py http://169.254.169.254/";
    let output = run(&world, workspace.path(), &[], script);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "403 not-allowed\n403 not-global\n"
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no network"), "{told}");
    assert!(
        told.contains(
            "denied: evil.test:80 nothing allows this host; --net evil.test would allow it"
        ),
        "{told}"
    );
    assert!(
        told.contains("denied: 169.254.169.254:80 its address is of"),
        "{told}"
    );
    let output = run(&world, workspace.path(), &["--json"], script);
    let text = String::from_utf8(output.stdout).unwrap();
    let denied: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["denied"].is_object())
        .collect();
    let expected = serde_json::json!([
        { "denied": { "seq": 1, "op": "request", "target": "evil.test:80",
                      "reason": "not-allowed", "allowedBy": "evil.test" } },
        { "denied": { "seq": 2, "op": "request", "target": "169.254.169.254:80",
                      "reason": "not-global" } },
    ]);
    assert_eq!(Value::from(denied), expected);
}

#[test]
fn a_server_of_this_machine_is_reached_only_where_its_user_names_it() {
    let world = World::knowing();
    let workspace = tempfile::tempdir().unwrap();
    fs::write(workspace.path().join("ask.py"), ASK).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let script = format!("python3 ask.py http://{address}/");
    // Programs go to the loopback by themselves; this one asks the proxy for it.
    let through = format!("NO_PROXY= no_proxy= {script}");
    let asked = run(&world, workspace.path(), &["--net", &address], &through);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "403 not-global\n");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let n = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nreached")
            .unwrap();
        String::from_utf8_lossy(&head[..n]).into_owned()
    });
    let named = run(
        &world,
        workspace.path(),
        &["--net-local", &address],
        &script,
    );
    assert_eq!(String::from_utf8_lossy(&named.stdout), "reached\n");
    assert!(serving.join().unwrap().starts_with("GET / HTTP/1.1"));
}
