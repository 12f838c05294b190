//! What comes back of a workspace, and that the workspace itself stays as it was.

use std::os::unix::fs::{PermissionsExt, symlink};

use sandbox_client::changes::{Bounds, Changes, Class, Kind, collect};
use sandbox_client::protocol::LocalCreate;

use crate::world::{World, asking, run, tree};

/// Changes as text, one a line.
pub(crate) fn list(changes: &Changes) -> String {
    let files = changes.files.iter().map(|file| {
        let what = match &file.kind {
            Kind::Written {
                contents,
                executable,
            } => format!(
                "written{} {:?}",
                if *executable { " +x" } else { "" },
                String::from_utf8_lossy(contents)
            ),
            Kind::Link { target } => format!("link {target}"),
            Kind::Deleted => "deleted".to_owned(),
        };
        let runs = match file.class {
            Class::Ordinary => "",
            Class::RunsOnYourMachine => " RUNS",
        };
        format!("{}: {what}{runs}\n", file.path)
    });
    let mut refused: Vec<String> = changes
        .refused
        .iter()
        .map(|refused| format!("refused {}: {}\n", refused.path, refused.reason))
        .collect();
    refused.sort();
    files.chain(refused).collect()
}

#[tokio::test]
async fn changes_come_back_and_the_workspace_is_untouched() {
    let world = World::new();
    world.write("a.txt", "one\n");
    world.write("touched.txt", "same\n");
    world.write("gone.txt", "x");
    world.write("old/inner.txt", "x");
    world.write("replaced/old.txt", "x");
    world.write("replaced/kept.txt", "kept");
    world.write(".gitignore", "build/\n*.log\n");
    let before = tree(&world.root());
    let sandbox = world.sandbox().await;
    let script = "set -e
        echo two >> a.txt; echo same > touched.txt; rm gone.txt; rm -r old
        rm -r replaced; mkdir replaced; printf kept > replaced/kept.txt; echo n > replaced/new.txt
        mkdir -p new/deep build; echo x > new/deep/file; echo o > build/out; echo l > run.log
        printf '#!/bin/sh\\n' > tool; chmod 755 tool; ln -s deep/file new/link
        echo 'fn main() {}' > build.rs; mkdir -p .github/workflows; echo y > .github/workflows/ci.yml";
    let finished = run(&sandbox, script).await;
    assert_eq!(finished.stderr.text(), "");
    let changes = world.changes(&sandbox).await;
    assert_eq!(
        list(&changes),
        ".github/workflows/ci.yml: written \"y\\n\" RUNS\n\
         a.txt: written \"one\\ntwo\\n\"\n\
         build.rs: written \"fn main() {}\\n\" RUNS\n\
         gone.txt: deleted\n\
         new/deep/file: written \"x\\n\"\n\
         new/link: link deep/file\n\
         old/inner.txt: deleted\n\
         replaced/new.txt: written \"n\\n\"\n\
         replaced/old.txt: deleted\n\
         tool: written +x \"#!/bin/sh\\n\"\n"
    );
    assert_eq!(tree(&world.root()), before);
}

#[tokio::test]
async fn removing_what_git_ignores_is_no_change() {
    let world = World::new();
    let rules = "build/\nnode_modules/\n*.log\n*.sqlite3\n!kept.log\n";
    world.write(".gitignore", rules);
    world.write("build/out.bin", "x");
    world.write("lib/node_modules/left/index.js", "x");
    world.write("kept/a.txt", "x");
    for path in [
        "a.txt",
        "dev.sqlite3",
        "x.log",
        "deep/y.log",
        "deep/kept.log",
    ] {
        world.write(&format!("web/{path}"), "x");
    }
    world.write("web/node_modules/left/index.js", "x");
    let sandbox = world.sandbox().await;
    run(&sandbox, "rm -r build lib/node_modules kept web").await;
    assert_eq!(
        list(&world.changes(&sandbox).await),
        "kept/a.txt: deleted\nweb/a.txt: deleted\nweb/deep/kept.log: deleted\n"
    );
}

#[tokio::test]
async fn git_ignores_in_a_folder_of_a_repository_what_its_root_and_its_own_list_say() {
    let world = World::new();
    world.write("repo/.git/info/exclude", "*.tmp\n");
    world.write("repo/.gitignore", "target/\n/sub/top\n*.log\n");
    world.write("repo/sub/.gitignore", "!kept.log\n");
    world.write("repo/sub/.ignore", "a.rs\n");
    let sub = world.root().join("repo/sub");
    let local = LocalCreate {
        workspace: Some(sub.clone()),
        ..LocalCreate::default()
    };
    let sandbox = world.client.create(asking(local)).await.unwrap();
    let script = "mkdir -p target in/target; for f in target/o in/target/o top in/top a.rs a.tmp a.log kept.log
        do echo x > $f; done";
    run(&sandbox, script).await;
    let changes = collect(&sandbox, &sub, Bounds::default()).await.unwrap();
    let paths: Vec<&str> = changes.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["a.rs", "in/top", "kept.log"]);
}

#[tokio::test]
async fn files_of_removed_directories_count_against_the_bounds() {
    let world = World::new();
    for n in 0..20 {
        world.write(&format!("many/{n}.txt"), "x");
    }
    let sandbox = world.sandbox().await;
    run(&sandbox, "rm -r many").await;
    let bounds = Bounds {
        entries: 10,
        ..Bounds::default()
    };
    let changes = collect(&sandbox, &world.root(), bounds).await.unwrap();
    assert!(changes.truncated);
    assert!(changes.files.len() <= 10, "{}", list(&changes));
}

#[tokio::test]
async fn what_would_lead_out_or_into_git_is_refused() {
    let world = World::new();
    world.write(".git/config", "[core]\n");
    world.write("a", "1");
    symlink("a", world.root().join("link")).unwrap();
    let before = tree(&world.root());
    let sandbox = world.sandbox().await;
    let script = "mkdir -p .git/hooks sub/.GIT deep
        echo x > .git/hooks/pre-commit; echo y >> .git/config; echo z > sub/.GIT/config
        ln -s /etc/passwd absolute; ln -s ../../x deep/up; ln -s .git/config deep/../into-git
        mkfifo pipe; echo t > 'trailing '; echo c > con.txt; echo n > \"$(printf 'new\\nline')\"
        truncate -s 900M sparse; truncate -s 9M big; chmod 4755 a; ln -sf a link";
    run(&sandbox, script).await;
    let changes = world.changes(&sandbox).await;
    assert_eq!(
        list(&changes),
        "a: written +x \"1\"\n\
         refused .git: nothing of .git comes back\n\
         refused absolute: the link leads out of the workspace\n\
         refused big: it is too large\n\
         refused con.txt: the path leaves the workspace or cannot be everywhere\n\
         refused deep/up: the link leads out of the workspace\n\
         refused into-git: the link leads out of the workspace\n\
         refused new\\nline: the path leaves the workspace or cannot be everywhere\n\
         refused pipe: it is no file, directory or link\n\
         refused sparse: it is too large\n\
         refused sub/.GIT: nothing of .git comes back\n\
         refused trailing : the path leaves the workspace or cannot be everywhere\n"
    );
    assert_eq!(tree(&world.root()), before);
    let mode = world
        .root()
        .join("a")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7000, 0);
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out_whole() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let path = "/home/user/some where/ü.bin";
    sandbox
        .write_file(path, bytes.clone().into())
        .await
        .unwrap();
    let sum = run(&sandbox, "wc -c < '/home/user/some where/ü.bin'").await;
    assert_eq!(sum.stdout.text().trim(), "3000000");
    assert_eq!(sandbox.read_file(path, 4 << 20).await.unwrap(), bytes);
    assert!(sandbox.read_file(path, 1000).await.is_err(), "over the cap");
    assert!(sandbox.read_file("/home/user/none", 1000).await.is_err());
}

#[tokio::test]
async fn more_changes_than_come_back_at_one_time_are_said_to_be() {
    let world = World::new();
    let sandbox = world.sandbox().await;
    let script = "mkdir many; for n in $(seq 25000); do : > many/$n; done; echo made";
    let said = run(&sandbox, script).await;
    assert_eq!(said.stdout.text(), "made\n", "{}", said.stderr.text());
    let changes = world.changes(&sandbox).await;
    assert!(changes.truncated);
    assert_eq!(changes.files.len(), 20_000);
}
