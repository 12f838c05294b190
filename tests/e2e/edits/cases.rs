//! Our own corpus: `tests/cases/edits/<name>/` with the files before (`input`), the answer
//! (`model.txt`), and the files after (`expected`) or the kind of refusal (`refused`).
//!
//! `base` has what the model read, where the files moved on since; `target` names the file that
//! edits without a path are for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::score::{Case, Content, Expected, Must, Tally, Verdict};

/// Cases there must be at least, so that an empty folder does not pass.
const FEWEST: usize = 150;

#[test]
fn every_case_comes_out_as_its_folder_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/edits");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cases.push(read_case(&path));
        }
    }
    assert!(cases.len() >= FEWEST, "only {} cases", cases.len());
    cases.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    let tally = Tally::of(&cases);
    let notes = tally.notes.join("\n");
    assert_eq!(tally.count(Verdict::Correct), cases.len(), "{notes}");
    for ((_, case, expected), kind) in cases.iter().zip(&tally.kinds) {
        assert_eq!(*kind, expected.error, "{}", case.id);
    }
}

fn read_case(folder: &Path) -> (String, Case, Expected) {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let original = files(&folder.join("input"));
    let after = files(&folder.join("expected"));
    let refused = text("refused").map(|kind| kind.trim().to_owned());
    let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let removed = original.keys().filter(|path| !after.contains_key(*path));
    let expected = Expected {
        must: match refused {
            Some(_) => Must::Reject,
            None => Must::Apply,
        },
        files: match refused {
            Some(_) => BTreeMap::new(),
            None => removed
                .map(|path| (path.clone(), None))
                .chain(after.iter().map(|(p, c)| (p.clone(), Some(c.clone()))))
                .collect(),
        },
        error: refused,
    };
    let base = files(&folder.join("base"));
    let case = Case {
        id: id.clone(),
        original,
        base: (!base.is_empty()).then(|| serde_json::to_value(base).unwrap()),
        target: text("target"),
        model_output: text("model.txt").unwrap(),
    };
    (id, case, expected)
}

/// All files below a folder, by path.
fn files(folder: &Path) -> BTreeMap<String, Content> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let Ok(entries) = fs::read_dir(&inner) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != ".gitkeep" {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), Content::of(&fs::read(&path).unwrap()));
            }
        }
    }
    files
}
