//! What a file says: its definitions, the names it uses, what it imports, and its chunks.
//!
//! Holds: the same bytes in the same language always give the same [`Unit`]; parsing is bounded
//! in time and size ([`Limits`]); nothing recurses, so nesting depth cannot overflow the stack.
//! A file that cannot be parsed, or has no grammar, still gives text chunks.
//! The grammars' `.scm` files are our own (`syntax/queries`); each pattern starts with the node
//! kind it is rooted at, because only nodes of those kinds are shown to the query engine: a query
//! over the whole tree costs half as much again as parsing it (`extract`).
//! Not here: which files are looked at (`walk`), who refers to whom (`graph`).

mod chunk;
mod extract;
mod found;
mod language;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::language::Language;
pub(crate) use self::{
    extract::{Kept, Parser},
    language::LanguageSpec,
};
use crate::text::analyse::Terms;

/// How much of a file is parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Larger files are cut into text chunks without a parse. A tree takes up to 35 times its
    /// source in memory.
    pub(crate) parse_bytes: usize,
    pub(crate) parse_time: Duration,
    pub(crate) definitions: usize,
    /// Names around a definition that are told with it, from the inside.
    pub(crate) enclosing: usize,
}

pub(crate) const LIMITS: Limits = Limits {
    parse_bytes: 1 << 20,
    parse_time: Duration::from_secs(3),
    definitions: 20_000,
    enclosing: 16,
};

/// Everything the index knows about one content in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub n_lines: u32,
    /// In order of their first line; a definition comes after the one it is nested in.
    pub definitions: Vec<Definition>,
    /// In order, without overlap, covering every line that is not blank.
    pub chunks: Vec<Chunk>,
    /// As written: `crate::store::Unit`, `"./app.js"`, `<stdio.h>`.
    pub imports: Vec<String>,
    /// The names used, in rising order of [`Identifier::hash`].
    #[serde(skip)]
    pub identifiers: Vec<Identifier>,
}

impl Unit {
    /// Returns a definition's name after those it is nested in, the nearest of many: `Reader::search`.
    pub fn qualified_name(&self, definition: u32) -> String {
        let mut names: Vec<&str> =
            std::iter::successors(self.definitions.get(definition as usize), |inner| {
                self.definitions.get(inner.parent? as usize)
            })
            .take(LIMITS.enclosing)
            .map(|definition| definition.name.as_str())
            .collect();
        names.reverse();
        names.join("::")
    }
}

/// A named thing that a file defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    pub kind: DefinitionKind,
    /// Zero-based; the first line includes documentation and attributes above.
    pub first_line: u32,
    /// The line of the name.
    pub name_line: u32,
    /// One past the last line.
    pub end_line: u32,
    /// The source up to its body, on one line, at most 200 bytes.
    pub signature: String,
    /// The place of the enclosing definition in the same list.
    pub parent: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefinitionKind {
    Function,
    Method,
    Class,
    Interface,
    /// A second place that adds to a type: `impl`, `extension`.
    Implementation,
    Type,
    Module,
    Constant,
    Field,
    Macro,
    /// A promise without a body, as in a C header.
    Declaration,
    /// A heading, table, rule or top-level key of a document.
    Section,
}

/// A piece of a file that is scored and shown on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub first_line: u32,
    /// One past the last line.
    pub end_line: u32,
    /// The place in [`Unit::definitions`] of the definition that covers most of it.
    pub definition: Option<u32>,
    /// How many terms were indexed.
    pub n_terms: u32,
}

/// A name that occurs in a file outside comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifier {
    pub hash: u32,
    /// Occurrences, at most 255.
    pub count: u8,
    pub style: NameStyle,
}

/// How much a name says by its form (aider's `repomap.py` weighs names the same way).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameStyle {
    Plain,
    /// Several words and at least eight characters: a match is unlikely to be chance.
    Descriptive,
    /// Starts with `_`.
    Private,
}

impl NameStyle {
    pub(crate) fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        if bytes.first() == Some(&b'_') {
            return Self::Private;
        }
        let several_words = bytes.windows(2).any(|pair| {
            (pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
                || (pair[0] == b'_' && pair[1].is_ascii_alphanumeric())
        });
        if bytes.len() >= 8 && several_words {
            Self::Descriptive
        } else {
            Self::Plain
        }
    }
}

/// The terms of one chunk, kept apart by where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkTerms {
    pub(crate) code: Terms,
    pub(crate) comment: Terms,
    /// Names defined in the chunk and the names around them.
    pub(crate) symbols: Terms,
}

/// A unit and what is indexed of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) unit: Unit,
    pub(crate) terms: Vec<ChunkTerms>,
    pub(crate) outcome: ParseOutcome,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ParseOutcome {
    #[default]
    Complete,
    /// Text chunks only: too large, or no grammar.
    NotParsed,
    TimedOut,
}

#[cfg(test)]
mod tests;
