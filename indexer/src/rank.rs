//! What the signals are worth together: boosted trees, fitted offline.
//!
//! The trees are data (`rank/files.json`), fitted by `benches/retrieval/fit_ranker.py` with
//! LambdaMART on questions made from the history of development repositories; none of them is a
//! repository that the published figures were measured on (leave one repository out).
//! Holds: the order of equal scores is that of the candidates, so an answer is reproducible; a
//! model that names other signals than these is refused, and reciprocal rank fusion answers.

mod forest;

use std::sync::LazyLock;

use serde::Deserialize;

use self::forest::Forest;
use crate::search::{Reason, Signal};

/// Names the columns that a ranker sees: an enum, the text of each, and how many there are.
macro_rules! signals {
    (
        $(#[$doc:meta])* pub(crate) enum $Signal:ident;
        pub(crate) const $N:ident;
        $($name:ident => $text:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $Signal { $($name,)* }
        impl $Signal {
            pub(crate) const NAMES: [&'static str; $N] = [$($text,)*];
        }
        pub(crate) const $N: usize = [$($text,)*].len();
    };
}
pub(crate) use signals;

/// Boosted regression trees over the signals of a kind of question.
pub(crate) struct Ranker {
    names: &'static [&'static str],
    /// What ranks when the trees do not fit the signals.
    fallback: usize,
    trees: Vec<Tree>,
    forest: Forest,
}

/// Ranks the files that answer a question.
pub(crate) static FILES: LazyLock<Ranker> = LazyLock::new(|| {
    let trees = include_str!("rank/files.json");
    Ranker::new(trees, &Signal::NAMES, Signal::FusedAll as usize)
});

/// What `fit_ranker.py` writes.
#[derive(Debug, Deserialize)]
struct Written {
    /// The columns the trees were fitted on.
    signals: Vec<String>,
    trees: Vec<WrittenTree>,
}

/// A binary tree; node 0 is the root.
#[derive(Debug, Deserialize)]
struct WrittenTree {
    /// The column each inner node looks at.
    signal: Vec<u16>,
    /// A value up to this goes left.
    threshold: Vec<f32>,
    /// The next inner node, or −1 − leaf.
    left: Vec<i16>,
    right: Vec<i16>,
    /// What all training rows that reached an inner node got on average.
    inner: Vec<f32>,
    leaf: Vec<f32>,
}

/// A tree that was checked: every walk from the root ends in a leaf.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    leaf: Vec<f32>,
    inner: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    threshold: f32,
    signal: u16,
    left: i16,
    right: i16,
}

impl Tree {
    fn checked(written: WrittenTree, n_signals: usize) -> Option<Self> {
        let n = written.signal.len();
        let lengths = [
            written.threshold.len(),
            written.left.len(),
            written.right.len(),
            written.inner.len(),
        ];
        let child_is_sound = |at: usize, child: i16| match usize::try_from(child) {
            // Children come after their parents, so no walk is endless.
            Ok(inner) => inner > at && inner < n,
            Err(_) => leaf_place(child) < written.leaf.len(),
        };
        let is_sound = lengths.iter().all(|&len| len == n)
            && !written.leaf.is_empty()
            && (0..n).all(|at| {
                usize::from(written.signal[at]) < n_signals
                    && child_is_sound(at, written.left[at])
                    && child_is_sound(at, written.right[at])
            });
        is_sound.then(|| Self {
            nodes: (0..n)
                .map(|at| Node {
                    threshold: written.threshold[at],
                    signal: written.signal[at],
                    left: written.left[at],
                    right: written.right[at],
                })
                .collect(),
            leaf: written.leaf,
            inner: written.inner,
        })
    }

    /// Returns the tree's value for a row; `step` sees each split with what it changed.
    fn value(&self, row: &[f32], mut step: impl FnMut(u16, &dyn Fn() -> f32)) -> f32 {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            let goes_left = row[usize::from(node.signal)] <= node.threshold;
            let child = if goes_left { node.left } else { node.right };
            match usize::try_from(child) {
                Ok(inner) => {
                    step(node.signal, &|| self.inner[inner] - self.inner[at]);
                    at = inner;
                }
                Err(_) => {
                    let leaf = self.leaf[leaf_place(child)];
                    step(node.signal, &|| leaf - self.inner[at]);
                    return leaf;
                }
            }
        }
        self.leaf[0]
    }
}

fn leaf_place(child: i16) -> usize {
    usize::from((-1 - i32::from(child)).unsigned_abs() as u16)
}

impl Ranker {
    fn new(written: &str, names: &'static [&'static str], fallback: usize) -> Self {
        let trees = |written: Written| -> Option<Vec<Tree>> {
            let trees = written.trees.into_iter();
            let checked = trees.map(|tree| Tree::checked(tree, names.len()));
            (written.signals == names).then(|| checked.collect())?
        };
        let trees = serde_json::from_str(written).ok().and_then(trees);
        let arranged = trees.and_then(|trees| Some((Forest::new(&trees)?, trees)));
        let (forest, trees) = arranged.unwrap_or_default();
        Self {
            trees,
            forest,
            names,
            fallback,
        }
    }

    /// Returns (row, score) of all candidates, best first. 1 µs a row.
    pub(crate) fn rank<const N: usize>(&self, rows: &[[f32; N]]) -> Vec<(usize, f32)> {
        let scores = if self.trees.is_empty() {
            rows.iter().map(|row| row[self.fallback]).collect()
        } else {
            self.forest.scores(rows)
        };
        let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    /// Returns what each signal added to a score, the largest first, small ones left out.
    ///
    /// A split's share is the change of the mean from a node to the next (Saabas 2014); with the
    /// mean of all rows the shares add up to the score.
    pub(crate) fn explain(&self, row: &[f32]) -> Vec<Reason> {
        let mut shares = vec![0.0; self.names.len()];
        if self.trees.is_empty() {
            shares[self.fallback] = row[self.fallback];
        }
        for tree in &self.trees {
            tree.value(row, |signal, change| {
                shares[usize::from(signal)] += change();
            });
        }
        let columns = self.names.iter().zip(row).zip(shares);
        let mut reasons: Vec<Reason> = columns
            .map(|((signal, &value), share)| Reason {
                signal,
                value,
                share,
            })
            .filter(|reason| reason.share.abs() > 0.01)
            .collect();
        reasons.sort_by(|a, b| b.share.total_cmp(&a.share));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::search::N_SIGNALS;

    #[test]
    fn the_shipped_trees_know_these_signals() {
        assert!(FILES.trees.len() >= 50);
    }

    #[test]
    fn shares_add_up_to_the_score() {
        let mut row = [0.3; N_SIGNALS];
        row[Signal::Chunks as usize] = 1.0;
        let mean: f32 = FILES.trees.iter().map(|tree| tree.inner[0]).sum();
        let mut sum = mean;
        for tree in &FILES.trees {
            tree.value(&row, |_, change| sum += change());
        }
        assert!((sum - FILES.rank(&[row])[0].1).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn rows_taken_together_get_what_each_gets_alone(
            values in vec(prop_oneof![Just(0.0), Just(f32::NAN), -0.5_f32..1.5], 40 * N_SIGNALS),
        ) {
            let (rows, _) = values.as_chunks::<N_SIGNALS>();
            let alone = |row| FILES.trees.iter().map(|tree| tree.value(row, |_, _| {})).sum();
            for (row, score) in rows.iter().zip(FILES.forest.scores(rows)) {
                let alone: f32 = alone(row);
                prop_assert_eq!(score, alone);
            }
        }
    }

    #[test]
    fn trees_that_loop_or_point_nowhere_are_refused() {
        let is_sound = |left: i16, right: i16| {
            let tree = WrittenTree {
                signal: vec![0],
                threshold: vec![0.5],
                left: vec![left],
                right: vec![right],
                inner: vec![0.0],
                leaf: vec![1.0, 2.0],
            };
            Tree::checked(tree, N_SIGNALS).is_some()
        };
        assert!(is_sound(-1, -2));
        assert!(!is_sound(0, -1));
        assert!(!is_sound(-1, -3));
        assert!(!is_sound(1, -1));
    }

    #[test]
    fn trees_of_other_signals_are_refused_and_one_signal_ranks() {
        let ranker = Ranker::new(r#"{"signals":["other"],"trees":[]}"#, &["one", "two"], 1);
        let ranked = ranker.rank(&[[3.0, 1.0], [1.0, 2.0]]);
        assert_eq!(ranked, [(1, 2.0), (0, 1.0)]);
        assert_eq!(ranker.explain(&[1.0, 2.0])[0].signal, "two");
    }
}
