//! All trees over many rows at once.
//!
//! A node rules out the leaves on its left for every row above its threshold; the first leaf that
//! is left is the row's (QuickScorer, Lucchese et al. 2015). Rows lie column by column, so a node
//! is compared with several rows by one instruction and no branch is guessed wrong: half the time
//! of a walk down each tree.

use super::{Tree, leaf_place};

/// Rows taken together: their columns stay in the nearest cache.
const BLOCK: usize = 32;

/// Trees of at most 32 leaves, as lists of their splits.
#[derive(Debug, Default)]
pub(super) struct Forest {
    splits: Vec<Split>,
    /// Of each tree: where its splits end, and its first leaf.
    trees: Vec<(usize, usize)>,
    /// Of all trees, each from left to right.
    leaves: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Split {
    threshold: f32,
    signal: u16,
    /// The leaves of its tree that a row above the threshold may still reach, a bit each.
    keeps: u32,
}

impl Forest {
    /// Arranges the trees; `None` when one has more than 32 leaves.
    pub(super) fn new(trees: &[Tree]) -> Option<Self> {
        let mut forest = Self::default();
        for tree in trees {
            let first_leaf = forest.leaves.len();
            if tree.nodes.is_empty() {
                forest.leaves.push(tree.leaf[0]);
            } else {
                forest.add(tree, 0, first_leaf)?;
            }
            forest.trees.push((forest.splits.len(), first_leaf));
        }
        Some(forest)
    }

    /// Adds a node and all below it.
    fn add(&mut self, tree: &Tree, at: usize, first_leaf: usize) -> Option<()> {
        let node = tree.nodes[at];
        let before = self.leaves.len() - first_leaf;
        self.add_child(tree, node.left, first_leaf)?;
        let after = self.leaves.len() - first_leaf;
        let on_the_left = ones(after)? & !ones(before)?;
        self.splits.push(Split {
            threshold: node.threshold,
            signal: node.signal,
            keeps: !on_the_left,
        });
        self.add_child(tree, node.right, first_leaf)
    }

    fn add_child(&mut self, tree: &Tree, child: i16, first_leaf: usize) -> Option<()> {
        match usize::try_from(child) {
            Ok(inner) => self.add(tree, inner, first_leaf),
            Err(_) => {
                self.leaves.push(tree.leaf[leaf_place(child)]);
                (self.leaves.len() - first_leaf <= 32).then_some(())
            }
        }
    }

    /// Returns the sum of all trees for each row.
    pub(super) fn scores<const N: usize>(&self, rows: &[[f32; N]]) -> Vec<f32> {
        let mut scores = vec![0.0; rows.len()];
        for (rows, scores) in rows.chunks(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            let mut columns = [[0.0_f32; BLOCK]; N];
            for (at, row) in rows.iter().enumerate() {
                for (column, &value) in columns.iter_mut().zip(row) {
                    column[at] = value;
                }
            }
            let mut from = 0;
            for &(to, first_leaf) in &self.trees {
                let mut reachable = [u32::MAX; BLOCK];
                for split in &self.splits[from..to] {
                    let column = &columns[usize::from(split.signal)];
                    for (reachable, &value) in reachable.iter_mut().zip(column) {
                        let goes_left = value <= split.threshold;
                        *reachable &= if goes_left { u32::MAX } else { split.keeps };
                    }
                }
                from = to;
                for (score, reachable) in scores.iter_mut().zip(reachable) {
                    *score += self.leaves[first_leaf + reachable.trailing_zeros() as usize];
                }
            }
        }
        scores
    }
}

/// Returns `n` ones from the right; `None` for more than 32.
fn ones(n: usize) -> Option<u32> {
    match n {
        0..32 => Some((1 << n) - 1),
        32 => Some(u32::MAX),
        _ => None,
    }
}
