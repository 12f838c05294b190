//! Prints the documentation and code terms of every documented chunk below the given folders, one
//! JSON array a line: the training pairs of the embedded vectorizer (`fit_vectors.py`).
//!
//! `cargo run --release -p indexer --example doc_pairs -- FOLDER… > pairs.jsonl`

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use indexer::{RepoPath, fit};

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for root in std::env::args_os().skip(1).map(PathBuf::from) {
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    print_pairs(&root, &entry.path(), &mut out)?;
                }
            }
        }
    }
    out.flush()
}

fn print_pairs(root: &Path, file: &Path, out: &mut impl Write) -> io::Result<()> {
    let Some(path) = RepoPath::below(root, file) else {
        return Ok(());
    };
    let is_large = fs::metadata(file).is_ok_and(|metadata| metadata.len() > 1 << 20);
    let Some(bytes) = fs::read(file).ok().filter(|_| !is_large) else {
        return Ok(());
    };
    for pair in fit::doc_pairs(&path, &bytes) {
        serde_json::to_writer(&mut *out, &[pair.documentation, pair.code])?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
