//! What the offline fits and measurements in `benches/retrieval` need of the index: the same
//! words, the same files. Nothing here is used while answering.

use std::path::Path;

use rayon::prelude::*;

use crate::{
    path::RepoPath,
    syntax::{Language, Parser},
    walk::class::{self, FileClass, MAX_BYTES},
};

/// The documentation of a definition and the code below it, as terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocPair {
    pub documentation: String,
    pub code: String,
}

/// Reads and parses every file that is indexed below `root`, and does nothing else with them:
/// what building an index is measured by. Returns how many files and bytes these are.
pub fn parse_all(root: &Path, threads: usize) -> (usize, usize) {
    let files = crate::walk::walk(root, threads, |_| ()).files;
    let parse = |parser: &mut Parser, path: &RepoPath| {
        if FileClass::of_path(path.as_str()) != FileClass::Content {
            return None;
        }
        let (bytes, _) = crate::walk::read(&path.under(root), MAX_BYTES).ok()?;
        if class::by_content(path.as_str(), &bytes) != FileClass::Content {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let head = &text[..text.floor_char_boundary(4_096)];
        parser.tree(Language::detect(path.file_name(), head), &text, None);
        Some(bytes.len())
    };
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else {
        return (0, 0);
    };
    pool.install(|| {
        files
            .par_iter()
            .map_init(Parser::default, |parser, (path, _)| parse(parser, path))
            .flatten()
            .map(|n_bytes| (1, n_bytes))
            .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    })
}

/// Returns the chunks of a file that have at least three words of comment and five of code.
pub fn doc_pairs(path: &RepoPath, bytes: &[u8]) -> Vec<DocPair> {
    let is_read = FileClass::of_path(path.as_str()) == FileClass::Content
        && class::by_content(path.as_str(), bytes) == FileClass::Content;
    let text = String::from_utf8_lossy(bytes);
    let language = Language::detect(path.file_name(), &text);
    if !is_read || !language.is_code() || class::is_test(path.as_str()) {
        return Vec::new();
    }
    Parser::default()
        .parse(language, &text)
        .terms
        .into_iter()
        .filter(|terms| terms.comment.len >= 3 && terms.code.len >= 5)
        .map(|terms| DocPair {
            documentation: terms.comment.text,
            code: terms.symbols.text + &terms.code.text,
        })
        .collect()
}
