//! BM25 over chunks and files in one pass over the postings.
//!
//! A term's count in a chunk is taken over its fields together, weighted, before it saturates
//! (BM25F). A file is scored twice: as the sum of its chunks' counts, and by its best three
//! chunks at 1, ½ and ¼, which measured better than either whole files or best chunks alone.
//! Terms are taken rarest first until [`MAX_POSTINGS`] is spent, so a question of common words
//! costs no more than any other.

use std::{io, sync::Arc};

use rustc_hash::FxHashSet;
use tantivy::{
    InvertedIndexReader, Searcher, Term,
    postings::{BlockSegmentPostings, TermInfo},
    schema::IndexRecordOption,
};

use super::{Fields, paths::idf};
use crate::{path::name_hash, store::UnitKey, syntax::ChunkTerms};

const K1: f32 = 1.2;
const B_CHUNK: f32 = 0.6;
const B_FILE: f32 = 0.75;
const COMMENT_WEIGHT: f32 = 0.8;
const SYMBOL_WEIGHT: f32 = 2.0;
/// Postings that a question may cost, some 25 ns each.
const MAX_POSTINGS: u64 = 600_000;
/// No file: a document whose content nothing has, or that was deleted.
const NONE: u32 = u32::MAX;

/// A term to look for and how much it matters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueryTerm {
    pub(crate) text: String,
    pub(crate) weight: f32,
}

/// The text index as of one commit, with what scoring needs in memory: 8 bytes a chunk.
pub(crate) struct TextBase {
    searcher: Searcher,
    fields: Fields,
    segments: Vec<Segment>,
    /// Terms of each file, by slot.
    file_terms: Vec<f32>,
    mean_file_terms: f32,
    mean_chunk_terms: f32,
    n_chunks: f32,
    /// Chunks of any content, also of one that no file has any more: what a term's documents are
    /// counted among.
    n_documents: f32,
    n_files: f32,
}

struct Segment {
    documents: Vec<Document>,
}

/// A chunk as scoring sees it.
#[derive(Clone, Copy)]
struct Document {
    /// Its file, or [`NONE`].
    slot: u32,
    /// What a count in it is weighed against: [`saturation`] of its length.
    saturation: f32,
}

/// The scores of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FileScore {
    pub(crate) file: f32,
    /// Of the best chunks, falling.
    pub(crate) chunks: [f32; 3],
    pub(crate) symbols: f32,
    /// The part of the question's weight that the file has at all, 0 to 1.
    pub(crate) coverage: f32,
}

impl FileScore {
    pub(crate) fn best_three(&self) -> f32 {
        self.chunks[0] + 0.5 * self.chunks[1] + 0.25 * self.chunks[2]
    }

    fn add_chunk(&mut self, score: f32) {
        let [first, second, third] = self.chunks;
        if score > first {
            self.chunks = [score, first, second];
        } else if score > second {
            self.chunks = [first, score, second];
        } else if score > third {
            self.chunks[2] = score;
        }
    }
}

/// A chunk and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChunkScore {
    pub(crate) slot: u32,
    /// The chunk's place in its unit.
    pub(crate) chunk: u32,
    pub(crate) score: f32,
}

/// What a question finds.
#[derive(Debug, Default)]
pub(crate) struct TextScores {
    /// By slot; all zero for a file without any of the words.
    pub(crate) files: Vec<FileScore>,
    /// The files with a score.
    pub(crate) found: Vec<u32>,
    /// The best chunks, falling.
    pub(crate) chunks: Vec<ChunkScore>,
    /// What a file would get that has all of the question.
    pub(crate) weight: f32,
}

impl TextScores {
    pub(crate) fn new(n_slots: usize) -> Self {
        Self {
            files: vec![FileScore::default(); n_slots],
            found: Vec::new(),
            chunks: Vec::new(),
            weight: 0.0,
        }
    }

    /// Gives a file its score, whether it had one or not.
    pub(crate) fn set(&mut self, slot: u32, score: FileScore) {
        if let Some(file) = self.files.get_mut(slot as usize) {
            if file.file == 0.0 {
                self.found.push(slot);
            }
            *file = score;
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(file) = self.files.get_mut(slot as usize)
            && file.file > 0.0
        {
            *file = FileScore::default();
            self.found.retain(|&other| other != slot);
        }
    }
}

impl TextBase {
    /// Prepares the index for scoring; `slot_of` tells which file has a unit. O(chunks).
    pub(crate) fn new(
        (searcher, fields): (Searcher, Fields),
        n_slots: usize,
        slot_of: impl Fn(UnitKey) -> Option<u32>,
    ) -> tantivy::Result<Self> {
        let mut file_terms = vec![0.0; n_slots];
        let mut segments = Vec::new();
        let (mut n_chunks, mut total_terms) = (0.0, 0.0);
        let schema = searcher.schema();
        for reader in searcher.segment_readers() {
            let units = reader
                .fast_fields()
                .u64(schema.get_field_name(fields.unit))?;
            let chunks = reader
                .fast_fields()
                .u64(schema.get_field_name(fields.chunk))?;
            let n_docs = reader.max_doc() as usize;
            let nobodys = Document {
                slot: NONE,
                saturation: 0.0,
            };
            let mut segment = Segment {
                documents: vec![nobodys; n_docs],
            };
            let mut last = (None, NONE);
            for document in reader.doc_ids_alive() {
                let unit = units.first(document);
                if unit != last.0 {
                    last = (
                        unit,
                        unit.and_then(|unit| slot_of(UnitKey(unit))).unwrap_or(NONE),
                    );
                }
                let n_terms = (chunks.first(document).unwrap_or(0) >> 32) as f32;
                segment.documents[document as usize] = Document {
                    slot: last.1,
                    saturation: n_terms,
                };
                if last.1 != NONE {
                    n_chunks += 1.0;
                    total_terms += n_terms;
                    file_terms[last.1 as usize] += n_terms;
                }
            }
            segments.push(segment);
        }
        let mean_chunk_terms = total_terms / f32::max(n_chunks, 1.0);
        for document in segments.iter_mut().flat_map(|s| &mut s.documents) {
            let length = document.saturation / mean_chunk_terms;
            document.saturation = saturation(length, B_CHUNK);
        }
        let n_documents = segments.iter().map(|s| s.documents.len() as f32).sum();
        let n_files = file_terms.iter().filter(|&&terms| terms > 0.0).count() as f32;
        Ok(Self {
            searcher,
            fields,
            segments,
            file_terms,
            mean_file_terms: total_terms / n_files.max(1.0),
            mean_chunk_terms,
            n_chunks,
            n_documents,
            n_files,
        })
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.n_chunks as usize
    }

    /// Returns how common each term is, as idf over chunks; what no chunk has gets the most.
    pub(crate) fn idf(&self, term: &str) -> f32 {
        let df = self
            .doc_freq(self.fields.code, term)
            .max(self.doc_freq(self.fields.comment, term));
        idf(self.n_documents, df as f32)
    }

    fn doc_freq(&self, field: tantivy::schema::Field, term: &str) -> u64 {
        // A term that cannot be read is one that nothing has.
        self.searcher
            .doc_freq(&Term::from_field_text(field, term))
            .unwrap_or(0)
    }

    /// Scores all files, and keeps the `n_best` chunks.
    ///
    /// `masked` slots are left out: their content is newer than the index (see [`score_parsed`]).
    pub(crate) fn score(
        &self,
        terms: &[QueryTerm],
        masked: &FxHashSet<u32>,
        n_best: usize,
    ) -> tantivy::Result<TextScores> {
        let readers = self.searcher.segment_readers();
        let mut lists = Vec::with_capacity(readers.len());
        for reader in readers {
            lists.push(Lists {
                symbols: reader.inverted_index(self.fields.symbols)?,
                code: reader.inverted_index(self.fields.code)?,
                comment: reader.inverted_index(self.fields.comment)?,
            });
        }
        let mut planned = Vec::with_capacity(terms.len());
        for term in terms {
            planned.push(Planned::new(self.fields, &lists, term)?);
        }
        planned.sort_by_key(Planned::n_postings);

        let segments = self.segments.iter();
        let mut chunk_scores: Vec<Vec<f32>> =
            segments.map(|s| vec![0.0; s.documents.len()]).collect();
        let mut found = TextScores::new(self.file_terms.len());
        let files = &mut found.files;
        let mut counted: Vec<Counted> = Vec::new();
        let mut spent = 0;
        for (place, term) in planned.iter().enumerate() {
            spent += term.n_postings();
            if spent > MAX_POSTINGS && place >= 2 {
                break;
            }
            let idf = term.weight * idf(self.n_documents, term.n_code.max(term.n_comment) as f32);
            found.weight += idf;
            let segments = self.segments.iter().zip(&mut chunk_scores);
            for ((segment, scores), (lists, places)) in segments.zip(lists.iter().zip(&term.places))
            {
                for hit in Matches::new(lists, places)? {
                    let Document { slot, saturation } = segment.documents[hit.document as usize];
                    if slot == NONE || masked.contains(&slot) {
                        continue;
                    }
                    scores[hit.document as usize] += idf * saturated(hit.count, saturation);
                    // A file's chunks are neighbours.
                    match counted.last_mut() {
                        Some(file) if file.slot == slot => {
                            file.count += hit.count;
                            file.is_symbol |= hit.is_symbol;
                        }
                        _ => counted.push(Counted {
                            slot,
                            count: hit.count,
                            is_symbol: hit.is_symbol,
                        }),
                    }
                }
            }
            let file_idf = term.weight * self::idf(self.n_files, counted.len() as f32);
            for Counted {
                slot,
                count,
                is_symbol,
            } in counted.drain(..)
            {
                let length = self.file_terms[slot as usize] / self.mean_file_terms;
                let file = &mut files[slot as usize];
                if file.file == 0.0 {
                    found.found.push(slot);
                }
                file.file += file_idf * saturated(count, saturation(length, B_FILE));
                file.coverage += idf;
                if is_symbol {
                    file.symbols += idf;
                }
            }
        }

        let mut best: Vec<(f32, usize, u32)> = Vec::new();
        let mut floor = 0.0;
        for (segment_at, scores) in chunk_scores.iter().enumerate() {
            let segment = &self.segments[segment_at];
            for (document, &score) in scores.iter().enumerate() {
                if score <= 0.0 {
                    continue;
                }
                files[segment.documents[document].slot as usize].add_chunk(score);
                if score > floor {
                    best.push((score, segment_at, document as u32));
                    if best.len() >= 4 * n_best.max(16) {
                        best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
                        best.truncate(n_best);
                        floor = best.last().map_or(0.0, |last| last.0);
                    }
                }
            }
        }
        best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        best.truncate(n_best);
        for &slot in &found.found {
            files[slot as usize].coverage /= found.weight.max(1e-6);
        }
        found.chunks = best
            .into_iter()
            .map(|(score, segment, document)| self.chunk(score, segment, document))
            .collect::<tantivy::Result<_>>()?;
        Ok(found)
    }

    fn chunk(&self, score: f32, segment: usize, document: u32) -> tantivy::Result<ChunkScore> {
        let reader = self.searcher.segment_reader(segment as u32);
        let name = self.searcher.schema().get_field_name(self.fields.chunk);
        let chunk = reader.fast_fields().u64(name)?.first(document).unwrap_or(0) as u32;
        Ok(ChunkScore {
            slot: self.segments[segment].documents[document as usize].slot,
            chunk,
            score,
        })
    }

    /// Scores a file that is not in the index as if it were.
    pub(crate) fn score_parsed(
        &self,
        bags: &Bags,
        terms: &[QueryTerm],
    ) -> Option<(FileScore, Vec<f32>)> {
        let mut file = FileScore::default();
        let mut chunks = vec![0.0; bags.chunks.len()];
        let mut total_weight = 0.0;
        for term in terms {
            let idf = term.weight * self.idf(&term.text);
            total_weight += idf;
            let hash = name_hash(term.text.as_bytes());
            let mut in_file = 0.0;
            for (bag, score) in bags.chunks.iter().zip(&mut chunks) {
                let Ok(at) = bag.counts.binary_search_by_key(&hash, |&(term, _, _)| term) else {
                    continue;
                };
                let (_, count, is_symbol) = bag.counts[at];
                in_file += count;
                let length = bag.n_terms / self.mean_chunk_terms;
                *score += idf * saturated(count, saturation(length, B_CHUNK));
                if is_symbol {
                    file.symbols += idf;
                }
            }
            if in_file > 0.0 {
                let length = bags.n_terms / self.mean_file_terms.max(1.0);
                file.file += idf * saturated(in_file, saturation(length, B_FILE));
                file.coverage += idf;
            }
        }
        for &score in &chunks {
            file.add_chunk(score);
        }
        file.coverage /= f32::max(total_weight, 1e-6);
        (file.file > 0.0).then_some((file, chunks))
    }
}

/// The postings of one segment, by field.
struct Lists {
    symbols: Arc<InvertedIndexReader>,
    code: Arc<InvertedIndexReader>,
    comment: Arc<InvertedIndexReader>,
}

/// A file that has a term.
struct Counted {
    slot: u32,
    count: f32,
    is_symbol: bool,
}

/// A document that has a term.
struct Match {
    document: u32,
    /// Over all fields, weighted.
    count: f32,
    is_symbol: bool,
}

/// The documents of one segment that have a term in any field, in rising order.
struct Matches {
    fields: [Cursor; 3],
}

impl Matches {
    fn new(lists: &Lists, [symbols, code, comment]: &[Option<TermInfo>; 3]) -> io::Result<Self> {
        let cursor = |list: &InvertedIndexReader, place: &Option<TermInfo>, weight| {
            let read =
                |place| list.read_block_postings_from_terminfo(place, IndexRecordOption::WithFreqs);
            let postings = place.as_ref().map(read).transpose()?;
            io::Result::Ok(Cursor::new(postings, weight))
        };
        Ok(Self {
            fields: [
                cursor(&lists.symbols, symbols, SYMBOL_WEIGHT)?,
                cursor(&lists.code, code, 1.0)?,
                cursor(&lists.comment, comment, COMMENT_WEIGHT)?,
            ],
        })
    }
}

impl Iterator for Matches {
    type Item = Match;

    fn next(&mut self) -> Option<Match> {
        let [symbols, code, comment] = &self.fields;
        let document = symbols.document.min(code.document).min(comment.document);
        if document == NONE {
            return None;
        }
        let is_symbol = symbols.document == document;
        let mut count = 0.0;
        for field in &mut self.fields {
            if field.document == document {
                count += field.count();
                field.advance();
            }
        }
        Some(Match {
            document,
            count,
            is_symbol,
        })
    }
}

/// A place in the postings of one field.
struct Cursor {
    postings: Option<BlockSegmentPostings>,
    at: usize,
    /// [`NONE`] behind the last.
    document: u32,
    weight: f32,
}

impl Cursor {
    fn new(postings: Option<BlockSegmentPostings>, weight: f32) -> Self {
        let mut cursor = Self {
            postings,
            at: 0,
            document: NONE,
            weight,
        };
        cursor.look();
        cursor
    }

    fn count(&self) -> f32 {
        let frequencies = self.postings.as_ref().map_or(&[][..], |p| p.freqs());
        self.weight * frequencies.get(self.at).copied().unwrap_or(0) as f32
    }

    fn advance(&mut self) {
        self.at += 1;
        if let Some(postings) = &mut self.postings
            && self.at == postings.block_len()
        {
            postings.advance();
            self.at = 0;
        }
        self.look();
    }

    fn look(&mut self) {
        let documents = self.postings.as_ref().map_or(&[][..], |p| p.docs());
        self.document = documents.get(self.at).copied().unwrap_or(NONE);
    }
}

/// A term and where its postings are.
struct Planned {
    weight: f32,
    n_symbols: u64,
    n_code: u64,
    n_comment: u64,
    /// For each segment: in symbols, code, comments.
    places: Vec<[Option<TermInfo>; 3]>,
}

impl Planned {
    fn new(fields: Fields, lists: &[Lists], term: &QueryTerm) -> tantivy::Result<Self> {
        let find = |list: &InvertedIndexReader, field| {
            list.get_term_info(&Term::from_field_text(field, &term.text))
        };
        let mut planned = Self {
            weight: term.weight,
            n_symbols: 0,
            n_code: 0,
            n_comment: 0,
            places: Vec::with_capacity(lists.len()),
        };
        let n = |place: &Option<TermInfo>| place.as_ref().map_or(0, |p| u64::from(p.doc_freq));
        for lists in lists {
            let places = [
                find(&lists.symbols, fields.symbols)?,
                find(&lists.code, fields.code)?,
                find(&lists.comment, fields.comment)?,
            ];
            planned.n_symbols += n(&places[0]);
            planned.n_code += n(&places[1]);
            planned.n_comment += n(&places[2]);
            planned.places.push(places);
        }
        Ok(planned)
    }

    fn n_postings(&self) -> u64 {
        self.n_symbols + self.n_code + self.n_comment
    }
}

/// The words of a file that is newer than the index, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bags {
    chunks: Vec<Bag>,
    n_terms: f32,
}

#[derive(Clone, Debug, Default)]
struct Bag {
    /// (term, weighted count, whether it is a symbol), in rising order of term.
    counts: Vec<(u32, f32, bool)>,
    n_terms: f32,
}

impl Bags {
    pub(crate) fn new(terms: &[ChunkTerms]) -> Self {
        let chunks: Vec<_> = terms
            .iter()
            .map(|terms| {
                let fields = [
                    (&terms.code, 1.0, false),
                    (&terms.comment, COMMENT_WEIGHT, false),
                    (&terms.symbols, SYMBOL_WEIGHT, true),
                ];
                let mut counts: Vec<(u32, f32, bool)> = fields
                    .into_iter()
                    .flat_map(|(field, weight, is_symbol)| {
                        field
                            .iter()
                            .map(move |t| (name_hash(t.as_bytes()), weight, is_symbol))
                    })
                    .collect();
                counts.sort_unstable_by_key(|&(term, _, _)| term);
                counts.dedup_by(|later, first| {
                    let same = later.0 == first.0;
                    if same {
                        first.1 += later.1;
                        first.2 |= later.2;
                    }
                    same
                });
                Bag {
                    counts,
                    n_terms: (terms.code.len + terms.comment.len) as f32,
                }
            })
            .collect();
        let n_terms = chunks.iter().map(|bag| bag.n_terms).sum();
        Self { chunks, n_terms }
    }
}

/// Returns the count at which a term is worth half of what it can be, for a length relative to
/// the mean.
fn saturation(relative_length: f32, b: f32) -> f32 {
    K1 * (1.0 - b + b * relative_length)
}

fn saturated(count: f32, saturation: f32) -> f32 {
    count * (K1 + 1.0) / (count + saturation)
}
