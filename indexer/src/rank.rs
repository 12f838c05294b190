//! What the signals are worth together: boosted trees, fitted offline.
//!
//! The trees are data (`rank/files.json`), fitted by `benches/retrieval/fit_ranker.py` with
//! LambdaMART on questions made from the history of development repositories; none of them is a
//! repository that the published figures were measured on (leave one repository out).
//! Holds: the order of equal scores is that of the candidates, so an answer is reproducible; a
//! model that names other signals than these is refused, and reciprocal rank fusion answers.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::search::{N_SIGNALS, Reason, Signal, signal_names};

/// Boosted regression trees over the signals.
#[derive(Debug, Deserialize)]
struct Model {
    /// The columns the trees were fitted on.
    signals: Vec<String>,
    trees: Vec<Tree>,
}

/// A binary tree; node 0 is the root.
#[derive(Debug, Deserialize)]
struct Tree {
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

static FILES: LazyLock<Option<Model>> = LazyLock::new(|| {
    let model: Model = serde_json::from_str(include_str!("rank/files.json")).ok()?;
    (model.signals == signal_names() && model.trees.iter().all(Tree::is_sound)).then_some(model)
});

impl Tree {
    /// Returns whether every path ends in a leaf that exists.
    fn is_sound(&self) -> bool {
        let n = self.signal.len();
        let same = [
            self.threshold.len(),
            self.left.len(),
            self.right.len(),
            self.inner.len(),
        ];
        let child_is_sound = |(at, &child): (usize, &i16)| match usize::try_from(child) {
            // Children come after their parents, so no walk is endless.
            Ok(inner) => inner > at && inner < n,
            Err(_) => self.leaf_of(child).is_some(),
        };
        same.iter().all(|&len| len == n)
            && self
                .signal
                .iter()
                .all(|&signal| usize::from(signal) < N_SIGNALS)
            && self.left.iter().enumerate().all(child_is_sound)
            && self.right.iter().enumerate().all(child_is_sound)
    }

    fn leaf_of(&self, child: i16) -> Option<f32> {
        self.leaf
            .get(usize::try_from(-1 - i32::from(child)).ok()?)
            .copied()
    }

    /// Returns the tree's value for a row; `step` sees each split with what it changed.
    fn value(&self, row: &[f32; N_SIGNALS], mut step: impl FnMut(u16, f32)) -> f32 {
        let mut at = 0;
        loop {
            let (Some(&signal), Some(&here)) = (self.signal.get(at), self.inner.get(at)) else {
                return self.leaf.first().copied().unwrap_or(0.0);
            };
            let goes_left = row[usize::from(signal)] <= self.threshold[at];
            let child = if goes_left {
                self.left[at]
            } else {
                self.right[at]
            };
            match usize::try_from(child) {
                Ok(inner) => {
                    step(signal, self.inner[inner] - here);
                    at = inner;
                }
                Err(_) => {
                    let leaf = self.leaf_of(child).unwrap_or(0.0);
                    step(signal, leaf - here);
                    return leaf;
                }
            }
        }
    }
}

/// Returns (row, score) of all candidates, best first.
pub(crate) fn rank(rows: &[[f32; N_SIGNALS]]) -> Vec<(usize, f32)> {
    let score = |row: &[f32; N_SIGNALS]| match &*FILES {
        Some(model) => model
            .trees
            .iter()
            .map(|tree| tree.value(row, |_, _| {}))
            .sum(),
        None => row[Signal::FusedAll as usize],
    };
    let mut ranked: Vec<(usize, f32)> = rows.iter().map(score).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// Returns what each signal added to a score, the largest first, small ones left out.
///
/// A split's share is the change of the mean from a node to the next (Saabas 2014); with the mean
/// of all rows the shares add up to the score.
pub(crate) fn explain(row: &[f32; N_SIGNALS]) -> Vec<Reason> {
    let mut shares = [0.0; N_SIGNALS];
    match &*FILES {
        Some(model) => {
            for tree in &model.trees {
                tree.value(row, |signal, change| shares[usize::from(signal)] += change);
            }
        }
        None => shares[Signal::FusedAll as usize] = row[Signal::FusedAll as usize],
    }
    let mut reasons: Vec<Reason> = Signal::ALL
        .into_iter()
        .map(|signal| Reason {
            signal: signal.name(),
            value: row[signal as usize],
            share: shares[signal as usize],
        })
        .filter(|reason| reason.share.abs() > 0.01)
        .collect();
    reasons.sort_by(|a, b| b.share.total_cmp(&a.share));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_knows_these_signals() {
        let model = FILES
            .as_ref()
            .expect("the model must fit the signals of this build");
        assert!(model.trees.len() >= 50);
    }

    #[test]
    fn shares_add_up_to_the_score() {
        let mut row = [0.3; N_SIGNALS];
        row[Signal::Chunks as usize] = 1.0;
        let model = FILES.as_ref().unwrap();
        let mean: f32 = model.trees.iter().map(|tree| tree.inner[0]).sum();
        let mut sum = mean;
        for tree in &model.trees {
            tree.value(&row, |_, change| sum += change);
        }
        assert!((sum - rank(&[row])[0].1).abs() < 1e-3);
    }

    #[test]
    fn trees_that_loop_or_point_nowhere_are_refused() {
        let tree = |left: i16, right: i16| Tree {
            signal: vec![0],
            threshold: vec![0.5],
            left: vec![left],
            right: vec![right],
            inner: vec![0.0],
            leaf: vec![1.0, 2.0],
        };
        assert!(tree(-1, -2).is_sound());
        assert!(!tree(0, -1).is_sound());
        assert!(!tree(-1, -3).is_sound());
        assert!(!tree(1, -1).is_sound());
    }
}
