//! The embedded vectorizer: the mean of word vectors, fitted on documentation and its code.
//!
//! A word's vector was fitted so that the words of a doc comment lie near the words of the code
//! below it (InfoNCE; `benches/retrieval/fit_vectors.py`), on package sources that are free to
//! use. It knows synonyms that occur in such pairs ("delete" and `remove`), nothing deeper.
//! Words it does not know count nothing.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use crate::{path::name_hash, syntax::ChunkTerms, text::analyse::Terms};

pub(crate) const DIMENSIONS: usize = 128;

/// `n u32 · n hashes u32 · n weights f32 · n rows of DIMENSIONS i8`, little endian.
static TABLE: &[u8] = include_bytes!("words.bin");

struct Words {
    rows: FxHashMap<u32, (f32, &'static [u8])>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let n = TABLE.first_chunk().map_or(0, |n| u32::from_le_bytes(*n)) as usize;
    let numbers = |from: usize| TABLE[from..from + 4 * n].chunks_exact(4);
    let rows = TABLE[4 + 8 * n..].chunks_exact(DIMENSIONS);
    let word = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let entries = numbers(4).zip(numbers(4 + 4 * n)).zip(rows);
    let rows =
        entries.map(|((hash, weight), row)| (word(hash), (f32::from_bits(word(weight)), row)));
    Words {
        rows: rows.collect(),
    }
});

/// Returns the vector of a chunk; all zero when no word is known.
pub(crate) fn chunk(terms: &ChunkTerms) -> Vec<f32> {
    let mut counts: FxHashMap<u32, f32> = FxHashMap::default();
    for field in [&terms.code, &terms.comment, &terms.symbols] {
        for term in field.iter() {
            *counts.entry(name_hash(term.as_bytes())).or_default() += 1.0;
        }
    }
    mean(
        counts
            .into_iter()
            .map(|(term, count)| (term, 1.0 + count.ln())),
    )
}

/// Returns the vector of a question.
pub(crate) fn question(terms: &Terms) -> Vec<f32> {
    mean(terms.iter().map(|term| (name_hash(term.as_bytes()), 1.0)))
}

fn mean(terms: impl Iterator<Item = (u32, f32)>) -> Vec<f32> {
    let mut sum = vec![0.0; DIMENSIONS];
    for (term, count) in terms {
        if let Some(&(weight, row)) = WORDS.rows.get(&term) {
            let weight = weight * count;
            for (sum, &byte) in sum.iter_mut().zip(row) {
                *sum += weight * f32::from(byte as i8);
            }
        }
    }
    sum
}
