//! Power cuts: what was not synced may or may not be on the disk, name by name, in any order.
//!
//! The model is harsher than any file system: until the journal says that all is done, every name
//! that changed may still be what it was, and a file whose bytes were not synced may be cut short.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;

type Tree = BTreeMap<String, (Vec<u8>, u32)>;

/// The machine as it is at one step.
struct Moment {
    step: Step,
    tree: Tree,
    state: tempfile::TempDir,
    /// Contents that are safely on the disk.
    synced: BTreeSet<Vec<u8>>,
}

/// Runs `work` and takes down the machine before each step.
fn moments(folder: &Folder, work: impl FnOnce()) -> Vec<Moment> {
    let original = tree_of(&folder.root);
    let synced: BTreeSet<Vec<u8>> = original.values().map(|(bytes, _)| bytes.clone()).collect();
    let taken = Rc::new(RefCell::new((Vec::<Moment>::new(), synced)));
    let (root, state) = (folder.root.clone(), folder.state.clone());
    let taking = Rc::clone(&taken);
    faults::set(Some(Box::new(move |step| {
        let (moments, synced) = &mut *taking.borrow_mut();
        let tree = tree_of(&root);
        let was_sync = moments.last().is_some_and(|m| m.step == Step::SyncTemp);
        if was_sync && step != Step::SyncTemp {
            let temps = tree.iter().filter(|(name, _)| name.ends_with('~'));
            synced.extend(temps.map(|(_, (bytes, _))| bytes.clone()));
        }
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&state, copy.path());
        moments.push(Moment {
            step,
            tree,
            state: copy,
            synced: synced.clone(),
        });
        Ok(())
    })));
    work();
    faults::set(None);
    taken.take().0
}

fn copy_tree(from: &Path, to: &Path) {
    for (name, (bytes, _)) in tree_of(from) {
        let path = to.join(&name);
        if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
}

/// Makes what a cut at `moment` may leave, with `rng` to decide what was lost.
fn cut(moment: &Moment, original: &Tree, root: &Path, rng: &mut TestRng) {
    let names: BTreeSet<&String> = original.keys().chain(moment.tree.keys()).collect();
    for name in names.into_iter().filter(|n| !n.ends_with('/')) {
        let (old, new) = (original.get(name), moment.tree.get(name));
        if name == "linked.txt" {
            // Written in place: each block on its own.
            let (old, new) = (&old.unwrap().0, &new.unwrap().0);
            let mut bytes = if rng.random::<bool>() {
                new.clone()
            } else {
                old.clone()
            };
            for (idx, block) in bytes.chunks_mut(512).enumerate() {
                let source = if rng.random::<bool>() { old } else { new };
                let start = (idx * 512).min(source.len());
                let n = block.len().min(source.len() - start);
                block[..n].copy_from_slice(&source[start..start + n]);
            }
            fs::write(root.join(name), bytes).unwrap();
            fs::hard_link(root.join(name), root.join("same.txt")).unwrap();
            continue;
        }
        if name == "same.txt" {
            continue;
        }
        let kept = if old == new || rng.random::<bool>() {
            new
        } else {
            old
        };
        let Some((bytes, mode)) = kept else { continue };
        let is_safe = moment.synced.contains(bytes);
        let n_bytes = if is_safe {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes[..n_bytes]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    for name in ["linked.txt", "same.txt"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_power_cut_before_the_end_leaves_the_files_as_they_were() {
    let folder = place(2);
    let original = tree_of(&folder.root);
    let workspace = folder.open();
    let moments = moments(&folder, || drop(apply(&workspace, 2).unwrap()));
    drop(workspace);
    let applied = tree_of(&folder.root);
    let end = moments.iter().position(|m| m.step == Step::End).unwrap();
    let mut rng = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    for (at, moment) in moments[..=end].iter().enumerate() {
        for _ in 0..4 {
            fs::remove_dir_all(&folder.root).unwrap();
            fs::create_dir_all(folder.root.join("src")).unwrap();
            fs::remove_dir_all(&folder.state).unwrap();
            copy_tree(moment.state.path(), &folder.state);
            cut(moment, &original, &folder.root, &mut rng);
            drop(folder.open());
            let mut now = tree_of(&folder.root);
            now.retain(|name, _| !name.ends_with('/') || original.contains_key(name));
            assert_eq!(now, original, "cut at step {at}, {:?}", moment.step);
        }
    }
    // Once the journal says it is done, nothing may be left to the cache.
    let last = &moments[end - 1];
    assert_eq!(
        last.step,
        Step::SyncDirectory,
        "the last thing before the end"
    );
    for (name, (bytes, _)) in &applied {
        let is_safe =
            moments[end].synced.contains(bytes) || name == "linked.txt" || name == "same.txt";
        assert!(is_safe, "{name} was never synced");
    }
}
