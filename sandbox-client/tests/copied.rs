//! Workspaces that are copied into sandboxes that cannot see this machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use sandbox_client::changes::{self, Changes, Class, Kind};
use sandbox_client::client::Sandbox;
use sandbox_client::copy::{Bounds, Copied, CopyError};
use sandbox_client::protocol::LocalCreate;

use crate::world::{World, asking, run, shell, told};

/// A sandbox that sees nothing of the workspace.
async fn blind(world: &World) -> Sandbox {
    let create = asking(LocalCreate::default());
    world.client.create(create).await.unwrap()
}

fn is_secret(path: &Path) -> bool {
    path.ends_with(".env") || path.ends_with("secret/key")
}

async fn copy(world: &World, sandbox: &Sandbox, bounds: Bounds) -> Copied {
    Copied::bring(sandbox, &world.root(), is_secret, bounds)
        .await
        .unwrap()
}

/// Runs a line in the copy: how it ended and what it wrote.
async fn run_in(sandbox: &Sandbox, copied: &Copied, line: &str) -> String {
    let line = format!("cd '{}' && {line}", copied.directory());
    told(&run(sandbox, &line).await)
}

async fn changes(world: &World, sandbox: &Sandbox, copied: &Copied) -> Changes {
    changes::collect_copied(sandbox, &world.root(), copied, changes::Bounds::default())
        .await
        .unwrap()
}

/// Each change in a word and its path.
fn shown(changes: &Changes) -> Vec<String> {
    let show = |file: &changes::FileChange| {
        let runs = match file.class {
            Class::Ordinary => "",
            Class::RunsOnYourMachine => "!",
        };
        match &file.kind {
            Kind::Written {
                contents,
                executable,
            } => {
                let how = if *executable { "x" } else { "w" };
                let text = String::from_utf8_lossy(contents);
                format!("{how}{runs} {}: {text}", file.path)
            }
            Kind::Link { target } => format!("l{runs} {} → {target}", file.path),
            Kind::Deleted => format!("d{runs} {}", file.path),
        }
    };
    changes.files.iter().map(show).collect()
}

#[tokio::test]
async fn what_git_ignores_or_is_hidden_never_leaves_and_the_rest_arrives_as_it_is() {
    let world = World::new();
    for (path, text) in [
        (".gitignore", "built/\n"),
        (".git/config", "[core]"),
        ("sub/.GIT/config", "[core]"),
        ("built/large", "x"),
        ("target/.env", "KEY=1"),
        ("node_modules/p/.env", "KEY=1"),
        ("node_modules/p/secret/key", "1"),
        (".env", "KEY=1"),
        ("secret/key", "1"),
        ("a b\nc.txt", "odd"),
        ("run.sh", "#!/bin/sh\necho ran\n"),
        ("sub/deep/er/f.txt", "deep"),
        ("huge.bin", "0123456789"),
    ] {
        world.write(path, text);
    }
    let script = world.root().join("run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // What builds by times would else build all of it.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let opened = fs::File::options().append(true).open(&script).unwrap();
    opened.set_modified(long_ago).unwrap();
    symlink("sub/deep", world.root().join("in")).unwrap();
    symlink("/etc/passwd", world.root().join("out")).unwrap();
    fs::create_dir(world.root().join("empty")).unwrap();
    let sandbox = blind(&world).await;
    let bounds = Bounds {
        file_bytes: 19,
        ..Bounds::default()
    };
    let world_root = world.root();
    fs::write(world_root.join("huge.bin"), [b'x'; 20]).unwrap();

    let copied = copy(&world, &sandbox, bounds).await;
    let found = run_in(
        &sandbox,
        &copied,
        "find . ! -name . -print0 | sort -z | tr '\\0' '|'; ./run.sh; stat -c %Y run.sh; cat in/er/f.txt",
    )
    .await;
    let expected = "./.gitignore|./a b\nc.txt|./empty|./in|./node_modules|./node_modules/p|./node_modules/p/secret|./run.sh|./secret|./sub|./sub/deep|./sub/deep/er|./sub/deep/er/f.txt|./target|ran\n1000000000\ndeep";
    assert!(found.contains(expected), "{found}");
    assert_eq!(copied.left_out(), ["huge.bin"]);
    assert_eq!(changes(&world, &sandbox, &copied).await, Changes::default());
}

#[tokio::test]
async fn what_a_command_did_to_the_copy_comes_back() {
    let world = World::new();
    for (path, text) in [
        ("a.txt", "one"),
        ("b.txt", "two"),
        ("gone/x.txt", "x"),
        ("gone/deep/y.txt", "y"),
        ("gone/.env", "KEY=1"),
        ("back.txt", "same"),
        ("run.sh", "echo"),
        ("shut/deep/z.txt", "z"),
    ] {
        world.write(path, text);
    }
    let sandbox = blind(&world).await;
    let copied = copy(&world, &sandbox, Bounds::default()).await;
    let script = "printf ONE > a.txt; touch -r b.txt ref; printf TWO > b.txt; touch -r ref b.txt; rm ref;
        rm -r gone; printf other > back.txt; printf same > back.txt; chmod +x run.sh;
        mkdir -p n/ew .github/workflows; printf new > n/ew/f; printf on > .github/workflows/w.yml;
        ln -s a.txt link; ln -s /etc/passwd out; mkfifo pipe; mkdir -p v/.git; printf x > v/.git/config;
        printf x > \"$(printf 'nl\\001x')\"; printf x > closed; chmod 0 closed;
        printf y > shut/deep/z.txt; printf x > shut/new; chmod 0 shut; mkdir listed; printf x > listed/f; chmod 400 listed";
    run_in(&sandbox, &copied, script).await;

    let found = changes(&world, &sandbox, &copied).await;
    assert_eq!(
        shown(&found),
        [
            "w! .github/workflows/w.yml: on",
            "w a.txt: ONE",
            "w b.txt: TWO",
            "d gone/deep/y.txt",
            "d gone/x.txt",
            "l link → a.txt",
            "w n/ew/f: new",
            "x run.sh: echo",
        ],
        "{:?}",
        found.refused
    );
    let mut refused: Vec<_> = found.refused.iter().map(|r| r.path.as_str()).collect();
    refused.sort_unstable();
    let all = ["closed", "listed", "nl\\u{1}x", "out", "pipe", "shut"];
    assert_eq!(refused, all);
}

/// As text, what is there of a folder of the world that was copied.
async fn files_of(world: &World, folder: &str) -> String {
    let sandbox = blind(world).await;
    let root = world.root().join(folder);
    let copied = Copied::bring(&sandbox, &root, is_secret, Bounds::default()).await;
    let all = "find . -type f -print | sort | tr '\\n' ' '";
    run_in(&sandbox, &copied.unwrap(), all).await
}

#[tokio::test]
async fn only_git_says_what_is_ignored_and_only_where_it_would() {
    let world = World::new();
    // Of a home directory that is no repository, which a folder below it is not asked about.
    world.write(".gitignore", "*\n");
    world.write("free/.ignore", "a.rs\n");
    for path in ["a.rs", "b.log", "deep/c.rs"] {
        world.write(&format!("free/{path}"), "x");
    }
    let found = files_of(&world, "free").await;
    assert_eq!(found, "Exited(0)\n./.ignore ./a.rs ./b.log ./deep/c.rs ");

    world.write("repo/.git/info/exclude", "*.tmp\n");
    world.write("repo/.gitignore", "target/\n/sub/top\n*.log\nbuilt/\n");
    for path in [
        "a.rs",
        "a.log",
        "a.tmp",
        "top",
        "target/o",
        "in/top",
        "in/target/o",
    ] {
        world.write(&format!("repo/sub/{path}"), "x");
    }
    let found = files_of(&world, "repo/sub").await;
    assert_eq!(found, "Exited(0)\n./a.rs ./in/top ");

    // One that is ignored as a whole was chosen all the same.
    world.write("repo/built/it/a.log", "x");
    world.write("repo/built/it/.gitignore", "b.log\n");
    world.write("repo/built/it/b.log", "x");
    let found = files_of(&world, "repo/built/it").await;
    assert_eq!(found, "Exited(0)\n./.gitignore ./a.log ");
}

#[tokio::test]
async fn a_large_workspace_goes_in_parts_and_one_too_large_not_at_all() {
    let world = World::new();
    for part in 0..3 {
        let bytes = vec![b'0' + part; 9 << 20];
        fs::write(world.root().join(format!("{part}.bin")), bytes).unwrap();
    }
    let sandbox = blind(&world).await;
    let copied = copy(&world, &sandbox, Bounds::default()).await;
    let found = run_in(&sandbox, &copied, "cat *.bin | wc -c; ls ..").await;
    assert!(found.contains(&(27 << 20).to_string()), "{found}");
    assert!(!found.contains("tar.gz"), "{found}");

    let bounds = Bounds {
        files: 2,
        ..Bounds::default()
    };
    let why = Copied::bring(&sandbox, &world.root(), is_secret, bounds).await;
    assert!(matches!(why, Err(CopyError::TooLarge(_))), "{why:?}");
}

#[tokio::test]
async fn a_sandbox_without_what_copying_needs_says_so() {
    let world = World::new();
    world.write("a.txt", "one");
    let sandbox = blind(&world).await;
    // A folder of that name that nothing can be written to.
    let name = world
        .root()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let ran = sandbox.run(
        shell(&format!("printf x > ~/{name}")),
        sandbox_client::output::Cap(100),
    );
    ran.await.unwrap();
    let why = Copied::bring(&sandbox, &world.root(), is_secret, Bounds::default()).await;
    let why = why.unwrap_err().to_string();
    assert!(why.starts_with("in the sandbox, mkdir"), "{why}");
}
