//! What the offline fits in `benches/retrieval` need of the index: the same words, the same
//! signals. Nothing here is used while answering.

use crate::{
    path::RepoPath,
    syntax::{Language, Parser},
    walk::class::{self, FileClass},
};

/// The documentation of a definition and the code below it, as terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocPair {
    pub documentation: String,
    pub code: String,
}

/// Returns the chunks of a file that have at least three words of comment and five of code.
pub fn doc_pairs(path: &RepoPath, bytes: &[u8]) -> Vec<DocPair> {
    let is_read = class::by_name(path.as_str()) == FileClass::Content
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
