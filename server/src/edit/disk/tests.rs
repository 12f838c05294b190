use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A folder with a repository, a state directory inside it, and a secret outside.
fn folder() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("project");
    for inner in ["project/.git/hooks", "project/state", "project/src"] {
        fs::create_dir_all(directory.path().join(inner)).unwrap();
    }
    fs::write(directory.path().join("secret"), "secret").unwrap();
    fs::write(root.join("src/a.txt"), "a").unwrap();
    fs::write(root.join(".git/config"), "config").unwrap();
    fs::write(root.join("state/pairwright.db"), "state").unwrap();
    let state = root.join("state");
    let root = Root::open(&root, Some(&state)).unwrap();
    (directory, root)
}

fn read(root: &Root, path: &str) -> Result<Content> {
    root.read(&RepoPath::parse(path).unwrap())
}

#[test]
fn links_are_followed_inside_and_never_outside() {
    let (directory, root) = folder();
    let links = [
        ("in", "src/a.txt", true),
        ("in_dir", "src", true),
        ("round", "../project/src/a.txt", false),
        ("out", "../secret", false),
        ("out_dir", "..", false),
        ("absolute_out", "/etc", false),
        ("git", ".git", false),
        ("git_deep", "src/../.git/hooks", false),
        ("state_link", "state", false),
        ("loop", "loop", false),
        ("proc", "/proc/self/root", false),
    ];
    for (name, target, _) in links {
        symlink(target, root.path().join(name)).unwrap();
    }
    let absolute_in = root.path().join("src/a.txt");
    symlink(absolute_in, root.path().join("absolute_in")).unwrap();
    for (name, _, is_allowed) in links {
        let below = format!("{name}/x");
        for path in [name, &below] {
            let found = read(&root, path);
            assert!(
                found.is_ok() == is_allowed || path == "in/x",
                "{path}: {found:?}"
            );
        }
    }
    assert!(matches!(read(&root, "absolute_in"), Ok(Content::File(_))));
    assert!(matches!(
        read(&root, "in/x"),
        Err(DiskError::NotADirectory { .. })
    ));
    let secret = fs::read_to_string(directory.path().join("secret")).unwrap();
    assert_eq!(secret, "secret");
}

#[test]
fn a_new_file_through_a_dangling_link_stays_inside() {
    let (directory, root) = folder();
    symlink("../outside.txt", root.path().join("dangling")).unwrap();
    symlink("inside.txt", root.path().join("fine")).unwrap();
    let place = |name: &str| root.spot(&RepoPath::parse(name).unwrap(), Directories::Make);
    assert!(matches!(place("dangling"), Err(DiskError::Escapes { .. })));
    let spot = place("fine").unwrap().unwrap();
    spot.stage("temp~", b"new", 0o644, None).unwrap();
    spot.place_new("temp~").unwrap();
    assert_eq!(
        fs::read_to_string(root.path().join("inside.txt")).unwrap(),
        "new"
    );
    assert!(root.path().join("fine").is_symlink());
    assert!(!directory.path().join("outside.txt").exists());
}

#[test]
fn our_own_state_is_out_of_reach() {
    let (_directory, root) = folder();
    for path in ["state/pairwright.db", "state/new.txt", "state/workspaces/x"] {
        assert!(
            matches!(read(&root, path), Err(DiskError::Ours { .. })),
            "{path}"
        );
    }
}

#[test]
fn what_is_not_a_regular_file_is_not_opened() {
    let (_directory, root) = folder();
    let fifo = root.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert!(matches!(
        read(&root, "fifo"),
        Err(DiskError::NotRegular { .. })
    ));
}

/// A directory is swapped for a link to the outside, over and over, while a file in it is read and
/// written.
#[test]
fn swapping_a_directory_for_a_link_gains_nothing() {
    let (directory, root) = folder();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.txt"), "outside").unwrap();
    let (source, aside) = (root.path().join("src"), root.path().join("aside"));
    let stop = AtomicBool::new(false);
    let mut text = String::from("a");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&source, &aside).unwrap();
                symlink(&outside, &source).unwrap();
                fs::remove_file(&source).unwrap();
                fs::rename(&aside, &source).unwrap();
            }
        });
        let path = RepoPath::parse("src/a.txt").unwrap();
        for n in 0..400 {
            if let Ok(Content::File(file)) = root.read(&path) {
                assert_ne!(file.bytes, b"outside");
            }
            let Ok(Some(spot)) = root.spot(&path, Directories::Leave) else {
                continue;
            };
            let temp = format!("temp{n}~");
            if spot
                .stage(&temp, n.to_string().as_bytes(), 0o644, None)
                .is_ok()
                && spot.swap(&temp, text.as_bytes()).is_ok()
            {
                text = n.to_string();
            }
            let _ = spot.unlink_temp(&temp);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        fs::read_to_string(outside.join("a.txt")).unwrap(),
        "outside"
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(source.join("a.txt")).unwrap(), text);
}

#[test]
fn attributes_and_mode_go_with_the_text() {
    let (_directory, root) = folder();
    let path = RepoPath::parse("src/a.txt").unwrap();
    let file = root.path().join("src/a.txt");
    let name = "user.pairwright.test";
    let flags = rustix::fs::XattrFlags::empty();
    let is_supported = rustix::fs::setxattr(&file, name, b"kept", flags).is_ok();
    let spot = root.spot(&path, Directories::Leave).unwrap().unwrap();
    spot.stage("temp~", b"b", 0o751, Some(&spot)).unwrap();
    spot.swap("temp~", b"a").unwrap();
    let mut value = [0; 16];
    if is_supported {
        let n_bytes = rustix::fs::getxattr(&file, name, &mut value).unwrap();
        assert_eq!(&value[..n_bytes], b"kept");
    }
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(fs::read(&file).unwrap(), b"b");
}
