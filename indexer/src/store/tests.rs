use proptest::prelude::*;

use super::*;
use crate::syntax::{Language, Parser, Unit};

fn unit(text: &str) -> (UnitKey, Unit) {
    let key = UnitKey::new(ContentHash::of(text.as_bytes()), Language::Rust);
    (key, Parser::default().parse(Language::Rust, text).unit)
}

fn units() -> Vec<(UnitKey, Unit)> {
    (0..20)
        .map(|n| unit(&format!("fn number_{n}() {{ call_{n}(); }}\n")))
        .collect()
}

fn filled(path: &Path) -> UnitLog {
    let (mut log, _) = UnitLog::open(path).unwrap();
    for (key, unit) in units() {
        log.append(key, &unit).unwrap();
    }
    log.flush().unwrap();
    log
}

fn readable(log: &UnitLog) -> usize {
    units()
        .iter()
        .filter(|(key, unit)| {
            log.get(*key)
                .is_some_and(|info| log.reader().unit(*key, info.location).unwrap() == *unit)
        })
        .count()
}

#[test]
fn units_come_back_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("units.log");
    assert_eq!(readable(&filled(&path)), 20);
    let (log, cut) = UnitLog::open(&path).unwrap();
    assert_eq!((readable(&log), cut), (20, 0));
}

#[test]
fn compaction_keeps_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(&dir.path().join("units.log"));
    let wanted: Vec<_> = units().into_iter().take(5).map(|(key, _)| key).collect();
    log.compact(|key| wanted.contains(&key)).unwrap();
    assert_eq!((log.units().len(), readable(&log)), (5, 5));
}

#[test]
fn a_second_writer_waits_for_the_first() {
    let cache = tempfile::tempdir().unwrap();
    let layout = Layout::of(cache.path(), Path::new("/ws"));
    let first = layout.lock().unwrap();
    assert!(first.is_some());
    assert!(layout.lock().unwrap().is_none());
    drop(first);
    assert!(layout.lock().unwrap().is_some());
}

#[test]
fn indexes_that_nobody_uses_are_removed() {
    let cache = tempfile::tempdir().unwrap();
    let of = |root: &str| Layout::of(cache.path(), Path::new(root));
    let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(3600);
    let age = |layout: &Layout| {
        let lock = OpenOptions::new()
            .write(true)
            .open(layout.dir().join("lock"));
        lock.unwrap().set_modified(long_ago).unwrap();
    };
    let [own, old, fresh, held] = ["/own", "/old", "/fresh", "/held"].map(of);
    for layout in [&own, &old, &fresh] {
        drop(layout.lock().unwrap());
        fs::write(layout.units(), "x").unwrap();
    }
    let lock = held.lock().unwrap();
    let another_version = cache.path().join("index-v1-abc");
    fs::rename(of("/old").dir(), &another_version).unwrap();
    drop(old.lock().unwrap());
    fs::create_dir(cache.path().join("local")).unwrap();
    [&own, &old, &held].into_iter().for_each(age);
    age(&Layout {
        dir: another_version.clone(),
    });
    own.sweep();
    let is_there = |layout: &Layout| layout.dir().is_dir();
    assert_eq!(
        [&own, &old, &fresh, &held].map(is_there),
        [true, false, true, true]
    );
    assert!(!another_version.exists());
    assert!(cache.path().join("local").is_dir());
    drop(lock);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_log_loses_only_what_follows(at in 0.0..1.0_f64, flip in 1_u8.., cut: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("units.log");
        drop(filled(&path));
        let mut bytes = fs::read(&path).unwrap();
        let at = (at * bytes.len() as f64) as usize;
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        fs::write(&path, &bytes).unwrap();

        let (mut log, _) = UnitLog::open(&path).unwrap();
        let kept = log.units().len();
        prop_assert!(kept < 20);
        prop_assert_eq!(readable(&log), kept);
        for (key, unit) in units() {
            if log.get(key).is_none() {
                log.append(key, &unit).unwrap();
            }
        }
        log.flush().unwrap();
        prop_assert_eq!(readable(&log), 20);
    }

    #[test]
    fn a_damaged_sealed_file_is_never_believed(at in 0.0..1.0_f64, flip in 1_u8.., cut: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest");
        Manifest { commit: Some("abc".repeat(20)), ..Manifest::default() }.write(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = (at * bytes.len() as f64) as usize;
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        fs::write(&path, &bytes).unwrap();
        prop_assert!(Manifest::read(&path).is_err());
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_an_index_not_even_one_made_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let cache = tempfile::tempdir().unwrap();
    let root = Path::new("/workspace");
    let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o777;
    for _ in 0..2 {
        let layout = Layout::of(cache.path(), root);
        drop(layout.lock().unwrap());
        assert_eq!(mode(layout.dir()), 0o700);
        fs::set_permissions(layout.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
