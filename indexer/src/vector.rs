//! Meaning: chunks whose vectors are near the question's.
//!
//! The default vectorizer is embedded and needs no download (`vector::embed`). Vectors of a model
//! outside are handed in, by content, into a log of their own; a question that brings its vector
//! is answered from them once they cover the workspace. A row is a chunk: a sign
//! bit per dimension for the scan, eight bits per dimension for the second look. The scan reads
//! every row's bits (2 ms for a million rows of 128 bits), and the best are looked at again, first
//! with the question's own numbers, then with the full row, so nothing needs training, deleting or rebuilding. Above [`ANN_BYTES`] of
//! bits a graph (hnsw_rs, `vector::ann`) answers for the rows it has and the scan for the rest.
//! Holds: rows are keyed by content; damage makes rows disappear, which costs recall only.
//! Not here: calling a model; the weight of the signal (`rank`).

pub(crate) mod ann;
pub(crate) mod embed;

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use self::ann::Graph;
use crate::{
    path::ContentHash,
    reader::Slot,
    store::{StoreError, UnitKey, read_exact_at},
};

/// Rows kept by differing bits: on real code vectors the best ten survive this cut at .96–1.0
/// with 1,600, at .88–.92 with 400.
const N_SCANNED: usize = 1_600;
/// Rows kept of those by the question itself against their bits, where they survive at .97–.99,
/// and looked at with eight bits a dimension, each a read of its own.
const N_RESCORED: usize = 400;
/// Bits of all rows above which a graph is built. A scan of this much takes about 25 ms.
pub(crate) const ANN_BYTES: usize = 256 << 20;
/// Words of sign bits of the embedded model.
const EMBEDDED_WORDS: usize = embed::DIMENSIONS / 64;
const NONE: Slot = Slot::MAX;

/// A model outside this program, whose vectors are handed in with [`crate::Index::put_vectors`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideModel {
    /// Tells its vectors from those of others: address and name.
    pub name: String,
    pub dimensions: usize,
}

/// Whose rows a log holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'m> {
    Embedded,
    Outside(&'m OutsideModel),
}

impl Source<'_> {
    fn dimensions(self) -> usize {
        match self {
            Self::Embedded => embed::DIMENSIONS,
            Self::Outside(model) => model.dimensions,
        }
    }

    fn file_name(self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::Outside(OutsideModel { name, dimensions }) => {
                format!("{}-{dimensions}", ContentHash::of(name.as_bytes()))
            }
        }
    }
}

/// A chunk, by content: what an outside model is asked for and answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkId {
    pub(crate) unit: UnitKey,
    pub(crate) chunk: u32,
    /// Hash of the chunk's own text; zero in the embedded model's rows, which need none.
    pub(crate) text: u64,
}

/// One row: sign bits, then eight bits a dimension.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: ChunkId,
    pub(crate) bits: Vec<u64>,
    pub(crate) bytes: Vec<i8>,
}

impl Row {
    /// Quantises a vector; its length is not kept.
    pub(crate) fn new(id: ChunkId, vector: &[f32]) -> Self {
        Self {
            id,
            bits: sign_bits(vector),
            bytes: quantised(vector),
        }
    }
}

/// The writer's side: an append-only file of rows.
pub(crate) struct VectorLog {
    path: PathBuf,
    file: BufWriter<File>,
    dimensions: usize,
    ids: Vec<ChunkId>,
    units: FxHashSet<UnitKey>,
    /// The chunks of the outside model's rows, and a row for each of their texts.
    chunks: FxHashSet<(UnitKey, u32)>,
    texts: FxHashMap<u64, u32>,
    bits: Vec<u64>,
    ann_bytes: usize,
    graph: Option<Arc<Graph>>,
}

impl VectorLog {
    /// Opens or creates the rows of a model, and drops what is damaged.
    pub(crate) fn open(dir: &Path, source: Source<'_>) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        let path = dir.join(source.file_name());
        let dimensions = source.dimensions();
        let io = |error| StoreError::io("open", &path)(error);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io)?;
        let (ids, bits) = read_rows(&path, dimensions)?;
        let good = (ids.len() * row_bytes(dimensions)) as u64;
        if file.metadata().map_err(io)?.len() > good {
            file.set_len(good).map_err(io)?;
        }
        let file = BufWriter::with_capacity(1 << 18, file);
        let mut log = Self {
            path,
            file,
            dimensions,
            ids,
            units: FxHashSet::default(),
            chunks: FxHashSet::default(),
            texts: FxHashMap::default(),
            bits,
            ann_bytes: ANN_BYTES,
            graph: None,
        };
        log.note_ids(0);
        Ok(log)
    }

    /// Notes what is known by the rows from `from` on.
    fn note_ids(&mut self, from: usize) {
        for (row, id) in self.ids.iter().enumerate().skip(from) {
            self.units.insert(id.unit);
            if id.text != 0 {
                self.chunks.insert((id.unit, id.chunk));
                self.texts.entry(id.text).or_insert(row as u32);
            }
        }
    }

    /// Returns whether the outside model's vector of a chunk is here.
    pub(crate) fn has_chunk(&self, unit: UnitKey, chunk: u32) -> bool {
        self.chunks.contains(&(unit, chunk))
    }

    /// Returns the hashes of the texts that have a row.
    pub(crate) fn texts(&self) -> impl Iterator<Item = u64> {
        self.texts.keys().copied()
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.ids.len()
    }

    /// Gives a chunk the row of another with the same text; returns whether there is one.
    pub(crate) fn append_same(&mut self, id: ChunkId) -> Result<bool, StoreError> {
        let Some(&row) = self.texts.get(&id.text) else {
            return Ok(false);
        };
        let io = |error| StoreError::io("read", &self.path)(error);
        self.file.flush().map_err(io)?;
        let file = File::open(&self.path).map_err(io)?;
        let mut bytes = vec![0_u8; self.dimensions];
        let offset = u64::from(row) * row_bytes(self.dimensions) as u64 + ID_BYTES as u64;
        read_exact_at(&file, &mut bytes, offset).map_err(io)?;
        let words = words_of(self.dimensions);
        let row = Row {
            id,
            bits: self.bits[row as usize * words..][..words].to_vec(),
            bytes: bytes.into_iter().map(|byte| byte as i8).collect(),
        };
        self.append(&[row])?;
        Ok(true)
    }

    pub(crate) fn contains(&self, unit: UnitKey) -> bool {
        self.units.contains(&unit)
    }

    pub(crate) fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let n_before = self.ids.len();
        for row in rows.iter().filter(|row| row.bytes.len() == self.dimensions) {
            let mut record = Vec::with_capacity(row_bytes(self.dimensions));
            record.extend_from_slice(&row.id.unit.0.to_le_bytes());
            record.extend_from_slice(&row.id.chunk.to_le_bytes());
            record.extend_from_slice(&row.id.text.to_le_bytes());
            record.extend(row.bytes.iter().map(|&byte| byte as u8));
            let check = blake3::hash(&record);
            record.extend_from_slice(&check.as_bytes()[..4]);
            self.file
                .write_all(&record)
                .map_err(StoreError::io("write", &self.path))?;
            self.ids.push(row.id);
            self.bits.extend_from_slice(&row.bits);
        }
        self.note_ids(n_before);
        Ok(())
    }

    /// Makes the rows so far readable; `slot_of` tells which file has a unit.
    pub(crate) fn base(
        &mut self,
        slot_of: impl Fn(UnitKey) -> Option<Slot>,
    ) -> Result<VectorBase, StoreError> {
        self.file
            .flush()
            .map_err(StoreError::io("write", &self.path))?;
        if self.bits.len() * 8 > self.ann_bytes {
            let n_new = self.ids.len() - self.graph.as_ref().map_or(0, |graph| graph.len());
            if n_new * 4 > self.ids.len() {
                let words = words_of(self.dimensions);
                self.graph = Some(Arc::new(Graph::build(&self.bits, words)));
            }
        }
        let file = File::open(&self.path).map_err(StoreError::io("open", &self.path))?;
        Ok(VectorBase {
            dimensions: self.dimensions,
            slots: self
                .ids
                .iter()
                .map(|id| slot_of(id.unit).unwrap_or(NONE))
                .collect(),
            chunks: self.ids.iter().map(|id| id.chunk).collect(),
            bits: self.bits.clone(),
            file: Some(Arc::new(file)),
            graph: self.graph.clone(),
        })
    }

    /// Rewrites the file with only the rows that `keep` wants.
    pub(crate) fn compact(&mut self, keep: impl Fn(UnitKey) -> bool) -> Result<(), StoreError> {
        self.file
            .flush()
            .map_err(StoreError::io("write", &self.path))?;
        let bytes = fs::read(&self.path).map_err(StoreError::io("read", &self.path))?;
        let temporary = self.path.with_extension("new");
        let kept: Vec<u8> = bytes
            .chunks_exact(row_bytes(self.dimensions))
            .zip(&self.ids)
            .filter(|(_, id)| keep(id.unit))
            .flat_map(|(row, _)| row.iter().copied())
            .collect();
        fs::write(&temporary, kept).map_err(StoreError::io("write", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(StoreError::io("rename", &temporary))?;
        let (ids, bits) = read_rows(&self.path, self.dimensions)?;
        (self.ids, self.bits, self.graph) = (ids, bits, None);
        self.units.clear();
        self.chunks.clear();
        self.texts.clear();
        self.note_ids(0);
        let file = OpenOptions::new().append(true).open(&self.path);
        self.file = BufWriter::new(file.map_err(StoreError::io("open", &self.path))?);
        Ok(())
    }
}

/// The rows as of one publishing. In memory: the sign bits and eight bytes a row.
#[derive(Default)]
pub(crate) struct VectorBase {
    dimensions: usize,
    slots: Vec<Slot>,
    chunks: Vec<u32>,
    bits: Vec<u64>,
    file: Option<Arc<File>>,
    graph: Option<Arc<Graph>>,
}

/// A chunk near a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Near {
    pub(crate) slot: Slot,
    pub(crate) chunk: u32,
    /// Cosine, −1 to 1.
    pub(crate) cosine: f32,
}

impl VectorBase {
    /// Returns the `n` nearest chunks of files that are not masked, nearest first.
    ///
    /// A vector of another length than the index's finds nothing.
    pub(crate) fn nearest(&self, vector: &[f32], masked: &FxHashSet<Slot>, n: usize) -> Vec<Near> {
        let Some(file) = self
            .file
            .as_ref()
            .filter(|_| vector.len() == self.dimensions)
        else {
            return Vec::new();
        };
        let wanted = sign_bits(vector);
        let live = |row: usize| self.slots[row] != NONE && !masked.contains(&self.slots[row]);
        let n_scanned = N_SCANNED.max(2 * n);
        let mut candidates: Vec<(u32, u32)> = Vec::new();
        let scanned_from = match &self.graph {
            Some(graph) => {
                candidates.extend(graph.nearest(&wanted, n_scanned, |row| live(row as usize)));
                graph.len()
            }
            None => 0,
        };
        self.scan(&wanted, scanned_from, n_scanned, live, &mut candidates);
        self.keep_likeliest(vector, N_RESCORED.max(n), &mut candidates);

        let row_len = row_bytes(self.dimensions) as u64;
        let mut bytes = vec![0_u8; self.dimensions];
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
        candidates.sort_unstable_by_key(|&(_, row)| row);
        let mut near: Vec<Near> = candidates
            .into_iter()
            .filter_map(|(_, row)| {
                read_exact_at(file, &mut bytes, u64::from(row) * row_len + ID_BYTES as u64).ok()?;
                let (mut dot, mut length) = (0.0_f32, 0.0_f32);
                for (&x, &byte) in vector.iter().zip(&bytes) {
                    let y = f32::from(byte as i8);
                    dot += x * y;
                    length += y * y;
                }
                let row = row as usize;
                let cosine = dot / (norm * length.sqrt().max(1e-9));
                Some(Near {
                    slot: self.slots[row],
                    chunk: self.chunks[row],
                    cosine,
                })
            })
            .collect();
        near.sort_unstable_by(|a, b| b.cosine.total_cmp(&a.cosine));
        near.truncate(n);
        near
    }

    /// Keeps the `n` candidates whose signs the question agrees with most, weighted by its own
    /// numbers: byte by byte from a table of what each byte's signs add.
    fn keep_likeliest(&self, vector: &[f32], n: usize, candidates: &mut Vec<(u32, u32)>) {
        if candidates.len() <= n {
            return;
        }
        let sum_of = |part: &[f32], byte: usize| -> f32 {
            let signs = part.iter().enumerate();
            signs
                .map(|(bit, &x)| if byte >> bit & 1 == 1 { x } else { -x })
                .sum()
        };
        let tables: Vec<f32> = vector
            .chunks(8)
            .flat_map(|part| (0..256).map(move |byte| sum_of(part, byte)))
            .collect();
        let words = words_of(self.dimensions);
        let agreement = |row: u32| -> f32 {
            let bits = &self.bits[row as usize * words..][..words];
            let bytes = bits.iter().flat_map(|word| word.to_le_bytes());
            let parts = tables.chunks_exact(256).zip(bytes);
            parts.map(|(table, byte)| table[usize::from(byte)]).sum()
        };
        let mut scored: Vec<(f32, (u32, u32))> = candidates
            .iter()
            .map(|&candidate| (agreement(candidate.1), candidate))
            .collect();
        scored.select_nth_unstable_by(n, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(n);
        candidates.clear();
        candidates.extend(scored.into_iter().map(|(_, candidate)| candidate));
    }

    /// Adds the `n` rows from `from` on with the fewest differing bits: one pass to count how many
    /// rows have each distance, one to take those up to the cut.
    fn scan(
        &self,
        wanted: &[u64],
        from: usize,
        n: usize,
        live: impl Fn(usize) -> bool,
        into: &mut Vec<(u32, u32)>,
    ) {
        let words = words_of(self.dimensions);
        let rows = self.bits.get(from * words..).unwrap_or_default();
        let distances: Vec<u16> = match wanted.as_array::<EMBEDDED_WORDS>() {
            // Twice as fast with a length that the compiler knows.
            Some(wanted) => {
                let (rows, _) = rows.as_chunks::<EMBEDDED_WORDS>();
                rows.iter().map(|row| differing(row, wanted)).collect()
            }
            None => {
                let rows = rows.chunks_exact(words);
                rows.map(|row| differing(row, wanted)).collect()
            }
        };
        let mut counts = vec![0_usize; words * 64 + 1];
        for (at, &distance) in distances.iter().enumerate() {
            if live(from + at) {
                counts[usize::from(distance)] += 1;
            }
        }
        let mut total = 0;
        let cut = counts.iter().position(|count| {
            total += count;
            total >= n
        });
        let cut = cut.unwrap_or(counts.len()) as u16;
        let kept = distances
            .iter()
            .enumerate()
            .filter(|&(at, &d)| d <= cut && live(from + at));
        into.extend(
            kept.take(2 * n)
                .map(|(at, &d)| (u32::from(d), (from + at) as u32)),
        );
    }

    /// Returns how many rows are of content that a file has.
    pub(crate) fn n_live(&self) -> usize {
        self.slots.iter().filter(|&&slot| slot != NONE).count()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Returns how many bits differ.
#[inline]
fn differing(a: &[u64], b: &[u64]) -> u16 {
    let differ = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones());
    differ.sum::<u32>() as u16
}

fn words_of(dimensions: usize) -> usize {
    dimensions.div_ceil(64).max(1)
}

/// Unit, chunk and text.
const ID_BYTES: usize = 8 + 4 + 8;

/// What names the row, one byte a dimension, checksum.
fn row_bytes(dimensions: usize) -> usize {
    ID_BYTES + dimensions + 4
}

fn sign_bits(vector: &[f32]) -> Vec<u64> {
    vector
        .chunks(64)
        .map(|part| {
            part.iter()
                .enumerate()
                .fold(0, |bits, (at, &x)| bits | (u64::from(x > 0.0) << at))
        })
        .collect()
}

fn quantised(vector: &[f32]) -> Vec<i8> {
    let largest = vector
        .iter()
        .fold(0.0_f32, |largest, x| largest.max(x.abs()))
        .max(1e-9);
    vector
        .iter()
        .map(|x| (x / largest * 127.0).round() as i8)
        .collect()
}

/// Reads rows up to the first that does not check.
fn read_rows(path: &Path, dimensions: usize) -> Result<(Vec<ChunkId>, Vec<u64>), StoreError> {
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut input = std::io::BufReader::with_capacity(1 << 18, file);
    let (mut ids, mut bits) = (Vec::new(), Vec::new());
    let mut record = vec![0; row_bytes(dimensions)];
    while input.read_exact(&mut record).is_ok() {
        let (body, check) = record.split_at(ID_BYTES + dimensions);
        if blake3::hash(body).as_bytes()[..4] != *check {
            break;
        }
        let parts = (
            body.first_chunk(),
            body[8..].first_chunk(),
            body[12..].first_chunk(),
        );
        let (Some(unit), Some(chunk), Some(text)) = parts else {
            break;
        };
        ids.push(ChunkId {
            unit: UnitKey(u64::from_le_bytes(*unit)),
            chunk: u32::from_le_bytes(*chunk),
            text: u64::from_le_bytes(*text),
        });
        let row: Vec<f32> = body[ID_BYTES..]
            .iter()
            .map(|&byte| f32::from(byte as i8))
            .collect();
        bits.extend(sign_bits(&row));
    }
    Ok((ids, bits))
}

#[cfg(test)]
mod tests;
