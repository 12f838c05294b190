use proptest::prelude::*;

use super::*;

fn listing(entries: &[(&str, u8, &str)]) -> Listing {
    let entry = |&(path, kind, changed): &(&str, u8, &str)| {
        let entry = Entry {
            kind,
            mode: 0o644,
            size: 1,
            changed: changed.to_owned(),
            target: Vec::new(),
        };
        (path.as_bytes().to_owned(), entry)
    };
    entries.iter().map(entry).collect()
}

#[test]
fn changes_are_told_in_their_directories_and_on_the_way_to_them() {
    let before = listing(&[
        ("a", b'd', "1"),
        ("a/b", b'd', "1"),
        ("a/b/old", b'f', "1"),
        ("a/b/same", b'f', "1"),
        ("a/gone", b'f', "1"),
        ("turned", b'f', "1"),
    ]);
    let now = listing(&[
        ("a", b'd', "2"),
        ("a/b", b'd', "2"),
        ("a/b/old", b'f', "2"),
        ("a/b/same", b'f', "1"),
        ("a/pipe", b'p', "2"),
        ("turned", b'd', "2"),
        ("turned/new", b'f', "2"),
    ]);
    let told = |directory: &str| {
        let changes = compare(&before, &now);
        let name = |change: &Change| {
            let kind = match change.kind {
                ChangeKind::File { .. } => "file",
                ChangeKind::Directory { .. } => "directory",
                ChangeKind::Deleted => "deleted",
                _ => "other",
            };
            format!("{} {kind}", String::from_utf8_lossy(&change.path.0))
        };
        let mut told: Vec<_> = changes[directory.as_bytes()].iter().map(name).collect();
        told.sort();
        told
    };
    assert_eq!(
        told(""),
        ["a directory", "turned deleted", "turned directory"]
    );
    assert_eq!(
        told("a"),
        ["a/b directory", "a/gone deleted", "a/pipe other"]
    );
    assert_eq!(told("a/b"), ["a/b/old file"]);
    assert_eq!(told("turned"), ["turned/new file"]);
    assert!(compare(&now, &now).is_empty());
}

#[test]
fn the_name_of_a_copy_is_one_everywhere() {
    for (workspace, name) in [
        ("/home/me/web-app_2", "web-app_2"),
        ("/home/me/-rf $(x) ü", "rfx"),
        ("/home/me/…", "workspace"),
        ("/", "workspace"),
    ] {
        assert_eq!(folder(Path::new(workspace)), name);
    }
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_packed_breaks_nothing() {
    let looked_at = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let about = looked_at.metadata().unwrap();
    let length = usize::try_from(about.len()).unwrap();
    let mut archive = begin();
    for (name, n_bytes) in [
        ("grown", length + 5),
        ("shrunk", length - 5),
        ("same", length),
    ] {
        let now = vec![b'x'; n_bytes];
        append(&mut archive, Path::new(name), &*now, &about).unwrap();
    }
    let packed = finish(archive).unwrap();
    let unpacked = flate2::read::GzDecoder::new(&*packed);
    let mut files = Vec::new();
    for file in tar::Archive::new(unpacked).entries().unwrap() {
        let mut file = file.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        files.push((file.path().unwrap().display().to_string(), text));
    }
    let (whole, cut) = ("x".repeat(length), "x".repeat(length - 5));
    let expected = [
        ("grown", whole.clone()),
        ("shrunk", cut + "\0\0\0\0\0"),
        ("same", whole),
    ];
    assert_eq!(files, expected.map(|(name, text)| (name.to_owned(), text)));
}

proptest! {
    #[test]
    fn a_listing_is_read_or_refused(listed in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(listing) = read(&listed) {
            prop_assert_eq!(compare(&listing, &listing), ByDirectory::new());
        }
    }
}
