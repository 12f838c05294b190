use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::process::{Resource, getrlimit};

use super::*;
use crate::service::machine::tree::{Owner, Shown};

/// What a directory has, below it: a file's contents or a link's target.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
}

type Entries = BTreeMap<PathBuf, Entry>;

fn image_of(folder: &Path) -> Arc<Image> {
    let masks = HashSet::new();
    let shown = Shown {
        owner: Owner::User,
        masks: &masks,
    };
    let mut tree = Tree::new();
    tree.add(folder, shown).unwrap();
    Arc::new(Image::of(tree).unwrap())
}

/// Reads an image as Linux does, by `fs/erofs/erofs_fs.h`.
struct Erofs {
    reader: Reader,
    first: u64,
}

impl Erofs {
    fn open(image: Arc<Image>) -> (Self, u64) {
        let mut reader = Reader::new(image);
        let mut superblock = [0; 128];
        reader.read(1024, &mut superblock).unwrap();
        assert_eq!(number(&superblock, 0, 4), u64::from(MAGIC));
        let first = number(&superblock, 40, 4) * BLOCK as u64;
        let root = number(&superblock, 14, 2);
        (Self { reader, first }, root)
    }

    /// The mode and the contents of an inode.
    fn inode(&mut self, nid: u64) -> (u32, Vec<u8>) {
        let mut inode = [0; INODE];
        let at = self.first + nid * SLOT as u64;
        self.reader.read(at, &mut inode).unwrap();
        assert_eq!(number(&inode, 0, 2), 1, "an extended inode, plain");
        let mut contents = vec![0; number(&inode, 8, 8) as usize];
        let at = number(&inode, 16, 4) * BLOCK as u64;
        self.reader.read(at, &mut contents).unwrap();
        (number(&inode, 4, 2) as u32, contents)
    }

    fn list(&mut self, nid: u64, at: &Path, found: &mut Entries) {
        let (_, blocks) = self.inode(nid);
        let mut last: Option<Vec<u8>> = None;
        for block in blocks.chunks(BLOCK) {
            let n_entries = number(block, 8, 2) as usize / ENTRY;
            for n in 0..n_entries {
                let start = number(block, n * ENTRY + 8, 2) as usize;
                let end = match n + 1 == n_entries {
                    true => block.len(),
                    false => number(block, (n + 1) * ENTRY + 8, 2) as usize,
                };
                let name = block[start..end].split(|b| *b == 0).next().unwrap();
                assert!(last.as_deref() < Some(name), "found by halving");
                last = Some(name.to_vec());
                if name == b"." || name == b".." {
                    continue;
                }
                let nid = number(block, n * ENTRY, 8);
                let path = at.join(OsString::from_vec(name.to_vec()));
                let (mode, contents) = self.inode(nid);
                let entry = match mode & 0o170_000 {
                    0o040_000 => {
                        self.list(nid, &path, found);
                        Entry::Directory
                    }
                    0o100_000 => Entry::File(contents),
                    0o120_000 => Entry::Link(contents),
                    other => panic!("mode {other:o}"),
                };
                found.insert(path, entry);
            }
        }
    }
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes[at..at + size].iter().rev();
    bytes.fold(0, |n, b| n << 8 | u64::from(*b))
}

/// All that an image has below a directory of this machine.
fn listed(image: Arc<Image>, below: &Path) -> Entries {
    let (mut erofs, root) = Erofs::open(image);
    let mut found = Entries::new();
    erofs.list(root, Path::new("/"), &mut found);
    let below = found.into_iter().filter_map(|(path, entry)| {
        let path = path.strip_prefix(below).ok()?.to_owned();
        (path != Path::new("")).then_some((path, entry))
    });
    below.collect()
}

/// Makes what is listed, as far as a file system can have it; returns what it has.
fn make(folder: &Path, wanted: Vec<(Vec<Vec<u8>>, Entry)>) -> Entries {
    let mut made = Entries::new();
    for (names, entry) in wanted {
        let path: PathBuf = names.into_iter().map(OsString::from_vec).collect();
        let at = folder.join(&path);
        let parents: Vec<_> = path.ancestors().skip(1).map(Path::to_owned).collect();
        if made.contains_key(&path) || fs::create_dir_all(at.parent().unwrap()).is_err() {
            continue;
        }
        for parent in parents {
            if parent != Path::new("") {
                made.insert(parent, Entry::Directory);
            }
        }
        let done = match &entry {
            Entry::Directory => fs::create_dir(&at),
            Entry::File(contents) => fs::write(&at, contents),
            Entry::Link(target) => symlink(OsString::from_vec(target.clone()), &at),
        };
        if done.is_ok() {
            made.insert(path, entry);
        }
    }
    made
}

fn names() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = prop_oneof![
        // Few, so that paths meet.
        "[a-c]".prop_map(String::into_bytes),
        vec(
            (1u8..=255).prop_filter("no name has it", |b| *b != b'/'),
            1..255
        ),
    ];
    let name = bytes.prop_filter("not a name", |name| name != b"." && name != b"..");
    vec(name, 1..4)
}

fn entries() -> impl Strategy<Value = Entry> {
    let size = prop_oneof![0usize..40, 4_090usize..4_100, 8_190usize..8_200];
    prop_oneof![
        Just(Entry::Directory),
        (size, any::<u8>()).prop_map(|(size, byte)| Entry::File(vec![byte; size])),
        vec(1u8..=255, 1..200).prop_map(Entry::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_image_has_what_the_directory_has_whatever_it_is_called(
        wanted in vec((names(), entries()), 0..60)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let made = make(folder.path(), wanted);
        prop_assert_eq!(listed(image_of(folder.path()), folder.path()), made);
    }

    /// Whatever is asked for, it is a piece of one and the same image, and zeros behind it.
    #[test]
    fn every_piece_is_of_the_same_image(
        wanted in vec((names(), entries()), 0..8),
        pieces in vec((any::<prop::sample::Index>(), 0usize..20_000), 1..20),
        beyond in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), wanted);
        let mut reader = Reader::new(image_of(folder.path()));
        let mut whole = vec![0; 200_000];
        reader.read(0, &mut whole).unwrap();
        for (at, length) in pieces {
            let at = at.index(whole.len());
            let end = (at + length).min(whole.len());
            let mut piece = vec![7; end - at];
            reader.read(at as u64, &mut piece).unwrap();
            prop_assert_eq!(&piece[..], &whole[at..end]);
        }
        let mut piece = vec![7; 100];
        reader.read(beyond.max(1 << 40), &mut piece).unwrap();
        prop_assert_eq!(piece, vec![0; 100]);
    }
}

#[test]
fn a_directory_of_many_names_is_found_in_every_block() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = (0..700).map(|n| {
        let name = format!("{n:0>200}").into_bytes();
        (vec![name], Entry::File(vec![b'x'; n % 3]))
    });
    let made = make(folder.path(), wanted.collect());
    assert_eq!(listed(image_of(folder.path()), folder.path()), made);
}

#[test]
fn what_becomes_of_files_after_they_were_listed_shows_nothing_else() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    fs::write(outside.path().join("secret"), "hush hush").unwrap();
    fs::create_dir(at("directory")).unwrap();
    let all = ["grown", "shrunk", "gone", "link", "pipe", "directory/file"];
    for name in all {
        fs::write(at(name), "123456789").unwrap();
    }
    let image = image_of(folder.path());
    assert!(image.is_current());
    fs::write(at("grown"), "123456789 and more").unwrap();
    fs::write(at("shrunk"), "1234").unwrap();
    for name in ["gone", "link", "pipe"] {
        fs::remove_file(at(name)).unwrap();
    }
    symlink(outside.path().join("secret"), at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::from(0o600)).unwrap();
    fs::rename(at("directory"), at("moved")).unwrap();
    fs::create_dir(outside.path().join("directory")).unwrap();
    fs::write(outside.path().join("directory/file"), "hush hush").unwrap();
    symlink(outside.path().join("directory"), at("directory")).unwrap();
    assert!(!image.is_current());

    let now = |name: &str| {
        let number = (0..).find(|n| image.tree.path(*n).ends_with(name)).unwrap();
        let extent = image.extents.iter().find(|extent| match extent.source {
            Source::File(of) => of == number,
            Source::Bytes(_) => false,
        });
        let first = extent.unwrap().first * BLOCK as u64;
        let mut contents = vec![7; 20];
        let mut reader = Reader::new(Arc::clone(&image));
        let read = reader.read(first, &mut contents);
        read.map(|()| contents).map_err(drop)
    };
    let padded = |text: &[u8]| Ok([text, &vec![0; 20 - text.len()]].concat());
    assert_eq!(now("grown"), padded(b"123456789"));
    assert_eq!(now("shrunk"), padded(b"1234"));
    for name in ["gone", "link", "pipe", "directory/file"] {
        assert_eq!(now(name), Err(()), "{name}");
    }
}

#[test]
fn other_names_times_or_sizes_are_another_image() {
    let folder = tempfile::tempdir().unwrap();
    let digest = || image_of(folder.path()).digest();
    fs::write(folder.path().join("a"), "1").unwrap();
    let first = digest();
    assert_eq!(digest(), first);
    fs::write(folder.path().join("a"), "12").unwrap();
    let second = digest();
    fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
    let third = digest();
    assert!(first != second && second != third && first != third);
    assert!(folder.path().metadata().unwrap().mtime() > 0);
}

#[test]
fn more_than_block_numbers_can_tell_is_refused_by_name() {
    const BYTES: u64 = 9 << 40;
    if getrlimit(Resource::Fsize)
        .current
        .is_some_and(|most| most < BYTES)
    {
        // The kernel would end this process, in a sandbox for one.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        // As sparse as can be.
        let file = File::create(folder.path().join(name)).unwrap();
        file.set_len(BYTES).unwrap();
    }
    let mut tree = Tree::new();
    let masks = HashSet::new();
    let shown = Shown {
        owner: Owner::User,
        masks: &masks,
    };
    tree.add(folder.path(), shown).unwrap();
    let why = Image::of(tree).map(drop).unwrap_err().to_string();
    assert!(why.contains("is too large: 16 TiB"), "{why}");
}
