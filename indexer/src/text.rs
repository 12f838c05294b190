//! Words: which chunks and files speak of what a question speaks of.
//!
//! One tantivy document per chunk, keyed by content, so a file that comes back after a branch
//! switch needs no indexing. Fields are code, comments and symbols; a path is matched in memory
//! (`text::paths`), because the same content can stand under several names.
//! Holds: terms are made by `text::analyse` alone, on both sides. Documents of content that no
//! file has any more stay until the next compaction, masked.
//! Not here: what a match is worth beside other signals (`rank`).

pub(crate) mod analyse;
pub(crate) mod paths;
pub(crate) mod score;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use rustc_hash::FxHashSet;
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term,
    directory::MmapDirectory,
    indexer::UserOperation,
    schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions},
    tokenizer::WhitespaceTokenizer,
};

use crate::{
    store::{StoreError, UnitKey},
    syntax::{Chunk, ChunkTerms},
};

/// What the writer may hold before it makes a segment.
const WRITER_BYTES: usize = 96 << 20;

/// The fields of a chunk's document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) unit: Field,
    /// The chunk's place in its unit, and its number of terms above bit 32.
    pub(crate) chunk: Field,
    pub(crate) code: Field,
    pub(crate) comment: Field,
    pub(crate) symbols: Field,
}

/// The writer's side of the text index.
pub(crate) struct TextIndex {
    writer: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    /// Units that have documents, committed or not.
    units: FxHashSet<UnitKey>,
    n_uncommitted: usize,
}

impl TextIndex {
    /// Opens or creates the index in `dir`, after checking every file's checksum.
    ///
    /// # Errors
    /// `Text` when it is damaged; the caller removes `dir` and tries again.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        // A file cut short makes some versions of the library panic instead of saying so.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_checked(dir)));
        opened.unwrap_or_else(|_| Err(StoreError::damaged(dir, "it cannot be read")))
    }

    fn open_checked(dir: &Path) -> Result<Self, StoreError> {
        let (index, fields) = open(dir)?;
        let damaged = index.validate_checksum().map_err(failed("check"))?;
        if !damaged.is_empty() {
            return Err(StoreError::damaged(dir, "checksum"));
        }
        let writer = index
            .writer_with_num_threads(1, WRITER_BYTES)
            .map_err(failed("open"))?;
        let reader = reader(&index)?;
        let units = units(&reader.searcher(), fields).map_err(failed("read"))?;
        Ok(Self {
            writer,
            reader,
            fields,
            units,
            n_uncommitted: 0,
        })
    }

    pub(crate) fn contains(&self, unit: UnitKey) -> bool {
        self.units.contains(&unit)
    }

    /// Adds the chunks of a unit that has none yet. They are found after the next
    /// [`commit`](Self::commit).
    pub(crate) fn add(
        &mut self,
        unit: UnitKey,
        chunks: &[Chunk],
        terms: Vec<ChunkTerms>,
    ) -> Result<(), StoreError> {
        if self.units.contains(&unit) {
            return Ok(());
        }
        let fields = self.fields;
        let documents = chunks
            .iter()
            .zip(terms)
            .enumerate()
            .map(|(at, (chunk, terms))| {
                let mut document = TantivyDocument::default();
                document.add_u64(fields.unit, unit.0);
                document.add_u64(fields.chunk, at as u64 | u64::from(chunk.n_terms) << 32);
                document.add_text(fields.code, terms.code.text);
                document.add_text(fields.comment, terms.comment.text);
                document.add_text(fields.symbols, terms.symbols.text);
                UserOperation::Add(document)
            });
        self.n_uncommitted += chunks.len();
        // One batch goes to one segment, so that a file's chunks are neighbours.
        self.writer.run(documents).map_err(failed("add to"))?;
        self.units.insert(unit);
        Ok(())
    }

    /// Makes what was added visible to new searchers, and safe from a crash. After an error the
    /// index must be opened anew.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if self.n_uncommitted > 0 {
            self.writer.commit().map_err(failed("commit"))?;
            self.n_uncommitted = 0;
            self.reader.reload().map_err(failed("reload"))?;
        }
        Ok(())
    }

    /// Removes the documents of units that `keep` does not want.
    pub(crate) fn compact(&mut self, keep: impl Fn(UnitKey) -> bool) -> Result<(), StoreError> {
        let unwanted: Vec<_> = self
            .units
            .iter()
            .copied()
            .filter(|&unit| !keep(unit))
            .collect();
        for unit in &unwanted {
            self.writer
                .delete_term(Term::from_field_u64(self.fields.unit, unit.0));
            self.units.remove(unit);
        }
        self.n_uncommitted += unwanted.len();
        self.commit()
    }

    pub(crate) fn searcher(&self) -> (Searcher, Fields) {
        (self.reader.searcher(), self.fields)
    }
}

/// Opens an index that another process writes.
pub(crate) fn open_read_only(dir: &Path) -> Result<(Searcher, Fields), StoreError> {
    if !dir.join("meta.json").is_file() {
        return Err(StoreError::damaged(dir, "no index yet"));
    }
    let read = || {
        let (index, fields) = open(dir)?;
        Ok((reader(&index)?.searcher(), fields))
    };
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(StoreError::damaged(dir, "it cannot be read")))
}

/// Returns a searcher that finds nothing.
pub(crate) fn in_memory() -> Result<(Searcher, Fields), StoreError> {
    let (schema, fields) = schema();
    Ok((reader(&Index::create_in_ram(schema))?.searcher(), fields))
}

fn open(dir: &Path) -> Result<(Index, Fields), StoreError> {
    let (schema, fields) = schema();
    let directory = MmapDirectory::open(dir)
        .map_err(|error| failed("open")(tantivy::TantivyError::from(error)))?;
    let index = Index::builder()
        .schema(schema)
        .settings(IndexSettings::default())
        .open_or_create(directory)
        .map_err(failed("open"))?;
    index
        .tokenizers()
        .register("terms", WhitespaceTokenizer::default());
    Ok((index, fields))
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let words = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer("terms")
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(false),
    );
    let fields = Fields {
        unit: schema.add_u64_field("unit", INDEXED | FAST),
        chunk: schema.add_u64_field("chunk", FAST),
        code: schema.add_text_field("code", words.clone()),
        comment: schema.add_text_field("comment", words.clone()),
        symbols: schema.add_text_field("symbols", words),
    };
    (schema.build(), fields)
}

fn reader(index: &Index) -> Result<IndexReader, StoreError> {
    index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .try_into()
        .map_err(failed("read"))
}

fn units(searcher: &Searcher, fields: Fields) -> tantivy::Result<FxHashSet<UnitKey>> {
    let mut units = FxHashSet::default();
    let name = searcher.schema().get_field_name(fields.unit);
    for segment in searcher.segment_readers() {
        let column = segment.fast_fields().u64(name)?;
        let mut last = None;
        for document in segment.doc_ids_alive() {
            let unit = column.first(document);
            if unit != last {
                units.extend(unit.map(UnitKey));
                last = unit;
            }
        }
    }
    Ok(units)
}

fn failed(attempt: &'static str) -> impl Fn(tantivy::TantivyError) -> StoreError {
    move |source| StoreError::Text {
        attempt,
        source: Box::new(source),
    }
}
