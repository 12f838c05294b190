//! A graph over sign bits for indexes too large to scan.
//!
//! hnsw_rs neither deletes nor updates, so the graph is an immutable base: rows that died are
//! filtered out of its answers, newer rows are scanned, and it is built again when a quarter of
//! the rows is not in it. Distances are differing bits, so a point costs its bits and its links,
//! not its floats.

use std::fmt;

use hnsw_rs::prelude::{Distance, Hnsw};

const MAX_LINKS: usize = 16;
const MAX_LAYERS: usize = 16;
const BUILD_WIDTH: usize = 100;

/// How many bits differ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DifferingBits;

impl Distance<u64> for DifferingBits {
    fn eval(&self, a: &[u64], b: &[u64]) -> f32 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum::<u32>() as f32
    }
}

/// The rows up to some point, linked to their neighbours.
pub(crate) struct Graph {
    links: Hnsw<'static, u64, DifferingBits>,
    len: usize,
}

impl Graph {
    /// Links all rows of `words` words each, on all cores.
    pub(crate) fn build(bits: &[u64], words: usize) -> Self {
        let len = bits.len() / words;
        let links = Hnsw::new(MAX_LINKS, len, MAX_LAYERS, BUILD_WIDTH, DifferingBits);
        let rows: Vec<(&[u64], usize)> = bits.chunks_exact(words).zip(0..).collect();
        links.parallel_insert_slice(&rows);
        Self { links, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns (differing bits, row) of about the `n` nearest live rows.
    pub(crate) fn nearest(
        &self,
        wanted: &[u64],
        n: usize,
        live: impl Fn(u32) -> bool,
    ) -> Vec<(u32, u32)> {
        self.links
            .search(wanted, n, n)
            .into_iter()
            .map(|neighbour| (neighbour.distance as u32, neighbour.d_id as u32))
            .filter(|&(_, row)| live(row))
            .collect()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
