//! Places in real files where someone once typed: the tour asks for ghost text there.
//!
//! Holds: what is shown is of regular files in the folder alone, and nothing that the embedded
//! engine would not learn; no more of a file is read than one that is taken may have.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::local;

/// Endings of files that the tour looks at.
const CODE: &[&str] = &[
    "rs", "py", "js", "mjs", "jsx", "ts", "tsx", "go", "java", "c", "h", "cc", "cpp", "hpp", "cs",
    "rb", "php", "swift", "kt", "scala", "lua", "sh",
];
/// Folders of sources that nobody writes: inputs of tests, copies of others' work.
const COPIES: &[&str] = &["cases", "fixtures", "testdata", "third_party", "vendor"];
/// Sizes of the files that are taken, in bytes.
const SIZES: std::ops::Range<usize> = 1 << 8..100 << 10;

/// A line of a file, with the place in it where the cursor is put.
pub(super) struct Place {
    /// Within the folder.
    pub(super) path: PathBuf,
    /// The text of the file.
    pub(super) text: String,
    /// Zero-based.
    pub(super) line: usize,
    /// What stands on the line up to the cursor, and what its author wrote after it.
    pub(super) before: String,
    pub(super) rest: String,
}

impl Place {
    /// The buffer as it would be while the line is typed: the rest of it is not there yet.
    pub(super) fn buffer(&self) -> String {
        let mut lines: Vec<&str> = self.text.split('\n').collect();
        lines[self.line] = &self.before;
        lines.join("\n")
    }
}

/// Picks about `n` places, spread over the code files of a folder. The same folder gives the same
/// places.
pub(super) fn pick(root: &Path, n: usize) -> Vec<Place> {
    let mut files: Vec<PathBuf> = WalkBuilder::new(root)
        .build()
        .flatten()
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path)
        .filter(|path| !path.iter().any(|part| COPIES.iter().any(|c| part == *c)))
        .filter(|path| {
            path.extension()
                .and_then(OsStr::to_str)
                .is_some_and(|e| CODE.contains(&e))
        })
        .collect();
    files.sort();
    let per_file = 6;
    let step = (files.len() * per_file / n.max(1)).max(1);
    let picked = files.iter().step_by(step);
    let places = picked.flat_map(|path| in_file(root, path, per_file));
    places.take(n).collect()
}

fn in_file(root: &Path, path: &Path, n: usize) -> Vec<Place> {
    let path = path.strip_prefix(root).unwrap_or(path);
    let Some(text) = read(root, path) else {
        return Vec::new();
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let first = lines.len() / 10;
    let step = ((lines.len() - first) / n).max(1);
    let near = |start: usize| {
        (start..lines.len().min(start + step)).find_map(|line| Some((line, split(lines[line])?)))
    };
    let found = (first..lines.len()).step_by(step).filter_map(near);
    found
        .map(|(line, (before, rest))| Place {
            path: path.to_owned(),
            text: text.clone(),
            line,
            before: before.to_owned(),
            rest: rest.to_owned(),
        })
        .collect()
}

/// Returns the text of a file worth showing.
fn read(root: &Path, path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(root.join(path)).ok()?;
    let most = SIZES.end as u64;
    file.take(most).read_to_end(&mut bytes).ok()?;
    if !SIZES.contains(&bytes.len()) {
        return None;
    }
    local::worth_learning(path, bytes).ok()
}

/// Splits a line of code at about half of its words, as if its author had come so far.
fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    let code = line.trim_start();
    let comment = ["//", "#", "*", "/*", "--", "\"\"\""]
        .iter()
        .any(|c| code.starts_with(c));
    if comment || !(16..100).contains(&code.len()) {
        return None;
    }
    let indent = line.len() - code.len();
    let words: Vec<usize> = code
        .match_indices([' ', '(', '.', ','])
        .map(|(i, c)| i + c.len())
        .collect();
    let at = indent + *words.get(words.len() / 2)?;
    let (before, rest) = line.split_at(at);
    (rest.trim().len() >= 4).then_some((before, rest))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_of_the_folder_that_hold_no_secret_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let text = "    let total = first.price() + second.price();\n".repeat(20);
        let secret = format!("-----BEGIN PRIVATE KEY-----\n{text}");
        for (name, text) in [
            ("folder/a.rs", &text),
            ("folder/key.rs", &secret),
            ("folder/large.rs", &text.repeat(1 << 12)),
            ("credentials", &text),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        symlink(dir.path().join("credentials"), folder.join("b.rs")).unwrap();
        symlink(dir.path(), folder.join("d")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("e.rs"), kind, mode, 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(pick(&folder, 60)));
        let places = told
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("it reads what has no end");
        let mut paths: Vec<PathBuf> = places.into_iter().map(|place| place.path).collect();
        paths.dedup();
        assert_eq!(paths, [Path::new("a.rs")]);
    }
}
