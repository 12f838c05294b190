//! Meaning: chunks whose vectors are near the question's.
//!
//! The default vectorizer is embedded and needs no download (`vector::embed`); vectors of any
//! other model are handed in from outside, by content, and replace it. A row is a chunk: a sign
//! bit per dimension for the scan, eight bits per dimension for the second look. The scan reads
//! every row's bits (2 ms for a million rows of 128 bits), and the best 1,600 are looked at again
//! with the full row, so nothing needs training, deleting or rebuilding. Above [`ANN_BYTES`] of
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

use rustc_hash::FxHashSet;

use self::ann::Graph;
use crate::{
    path::ContentHash,
    reader::Slot,
    store::{StoreError, UnitKey, read_exact_at},
};

/// Rows looked at with eight bits a dimension: on real code vectors the best ten survive the
/// sign-bit cut at .96–1.0 with 1,600, at .88–.92 with 400.
const N_RESCORED: usize = 1_600;
/// Bits of all rows above which a graph is built. A scan of this much takes about 25 ms.
pub(crate) const ANN_BYTES: usize = 256 << 20;
const NONE: Slot = Slot::MAX;

/// Which vectors an index holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorModel {
    /// Word vectors that are part of this program.
    Embedded,
    /// Vectors of this model and length, handed in with [`crate::Index::put_vectors`].
    External {
        name: String,
        dimensions: usize,
    },
    Off,
}

impl VectorModel {
    pub(crate) fn dimensions(&self) -> usize {
        match self {
            Self::Embedded => embed::DIMENSIONS,
            Self::External { dimensions, .. } => *dimensions,
            Self::Off => 0,
        }
    }

    fn file_stem(&self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::External { name, dimensions } => {
                format!("{}-{dimensions}", ContentHash::of(name.as_bytes()))
            }
            Self::Off => "off".to_owned(),
        }
    }
}

/// A chunk, by content: what an outside vectorizer is asked for and answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChunkId {
    pub(crate) unit: UnitKey,
    pub(crate) chunk: u32,
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
    bits: Vec<u64>,
    ann_bytes: usize,
    graph: Option<Arc<Graph>>,
}

impl VectorLog {
    /// Opens or creates the rows of a model, and drops what is damaged.
    pub(crate) fn open(dir: &Path, model: &VectorModel) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        let path = dir.join(model.file_stem());
        let dimensions = model.dimensions();
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
        let units = ids.iter().map(|id| id.unit).collect();
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(Self {
            path,
            file,
            dimensions,
            ids,
            units,
            bits,
            ann_bytes: ANN_BYTES,
            graph: None,
        })
    }

    pub(crate) fn contains(&self, unit: UnitKey) -> bool {
        self.units.contains(&unit)
    }

    pub(crate) fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows.iter().filter(|row| row.bytes.len() == self.dimensions) {
            let mut record = Vec::with_capacity(row_bytes(self.dimensions));
            record.extend_from_slice(&row.id.unit.0.to_le_bytes());
            record.extend_from_slice(&row.id.chunk.to_le_bytes());
            record.extend(row.bytes.iter().map(|&byte| byte as u8));
            let check = blake3::hash(&record);
            record.extend_from_slice(&check.as_bytes()[..4]);
            self.file
                .write_all(&record)
                .map_err(StoreError::io("write", &self.path))?;
            self.ids.push(row.id);
            self.units.insert(row.id.unit);
            self.bits.extend_from_slice(&row.bits);
        }
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
        self.units = ids.iter().map(|id| id.unit).collect();
        (self.ids, self.bits, self.graph) = (ids, bits, None);
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
        let n_rescored = N_RESCORED.max(n);
        let mut candidates: Vec<(u32, u32)> = Vec::new();
        let scanned_from = match &self.graph {
            Some(graph) => {
                candidates.extend(graph.nearest(&wanted, n_rescored, |row| live(row as usize)));
                graph.len()
            }
            None => 0,
        };
        self.scan(&wanted, scanned_from, n_rescored, live, &mut candidates);

        let row_len = row_bytes(self.dimensions) as u64;
        let mut bytes = vec![0_u8; self.dimensions];
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
        candidates.sort_unstable_by_key(|&(_, row)| row);
        let mut near: Vec<Near> = candidates
            .into_iter()
            .filter_map(|(_, row)| {
                read_exact_at(file, &mut bytes, u64::from(row) * row_len + 12).ok()?;
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
        let distance = |row: &[u64]| -> u32 {
            row.iter()
                .zip(wanted)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum()
        };
        let rows = self.bits.chunks_exact(words).enumerate().skip(from);
        let mut counts = vec![0_usize; words * 64 + 1];
        let distances: Vec<u16> = rows.map(|(_, row)| distance(row) as u16).collect();
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

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

fn words_of(dimensions: usize) -> usize {
    dimensions.div_ceil(64).max(1)
}

/// Unit, chunk, one byte a dimension, checksum.
fn row_bytes(dimensions: usize) -> usize {
    8 + 4 + dimensions + 4
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
        let (body, check) = record.split_at(12 + dimensions);
        if blake3::hash(body).as_bytes()[..4] != *check {
            break;
        }
        let (Some(unit), Some(chunk)) = (body.first_chunk(), body[8..].first_chunk()) else {
            break;
        };
        ids.push(ChunkId {
            unit: UnitKey(u64::from_le_bytes(*unit)),
            chunk: u32::from_le_bytes(*chunk),
        });
        let row: Vec<f32> = body[12..]
            .iter()
            .map(|&byte| f32::from(byte as i8))
            .collect();
        bits.extend(sign_bits(&row));
    }
    Ok((ids, bits))
}

#[cfg(test)]
mod tests;
