//! What a signal says of files, and the order it puts them in.

use crate::reader::Slot;

/// A score for each slot; most are zero, larger is better.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scores {
    by_slot: Vec<f32>,
    /// Slots that have a score, in the order they got it.
    scored: Vec<Slot>,
}

impl Scores {
    pub(crate) fn new(n_slots: usize) -> Self {
        Self {
            by_slot: vec![0.0; n_slots],
            scored: Vec::new(),
        }
    }

    /// Adds to a file's score; what is not above zero adds nothing.
    pub(crate) fn add(&mut self, slot: Slot, score: f32) {
        if let Some(sum) = self.by_slot.get_mut(slot as usize)
            && score > 0.0
        {
            if *sum == 0.0 {
                self.scored.push(slot);
            }
            *sum += score;
        }
    }

    /// Raises a file's score to `score`.
    pub(crate) fn raise(&mut self, slot: Slot, score: f32) {
        self.add(slot, score - self.get(slot));
    }

    pub(crate) fn get(&self, slot: Slot) -> f32 {
        self.by_slot.get(slot as usize).copied().unwrap_or(0.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, f32)> {
        self.scored.iter().map(|&slot| (slot, self.get(slot)))
    }

    /// Returns the best `n` in falling order, equal ones by slot.
    pub(crate) fn order(&self, n: usize) -> Vec<Slot> {
        let falling = |a: &(Slot, f32), b: &(Slot, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let mut ranked: Vec<(Slot, f32)> = Vec::new();
        // What the worst of the best so far has.
        let mut floor = 0.0;
        for scored in self.iter() {
            if scored.1 >= floor {
                ranked.push(scored);
                if ranked.len() == 4 * n + 16 {
                    ranked.select_nth_unstable_by(n, falling);
                    ranked.truncate(n);
                    floor = ranked
                        .iter()
                        .map(|&(_, score)| score)
                        .fold(f32::MAX, f32::min);
                }
            }
        }
        ranked.sort_unstable_by(falling);
        ranked.truncate(n);
        ranked.into_iter().map(|(slot, _)| slot).collect()
    }
}

/// A signal's scores with its best files in falling order, at most [`N_ORDERED`].
pub(crate) struct Column {
    pub(crate) scores: Scores,
    pub(crate) order: Vec<Slot>,
    best: f32,
}

/// Places a signal gives: the next ones say nothing.
pub(crate) const N_ORDERED: usize = 400;

impl Column {
    pub(crate) fn new(scores: Scores) -> Self {
        let order = scores.order(N_ORDERED);
        let best = order.first().map_or(1.0, |&slot| scores.get(slot));
        Self {
            scores,
            order,
            best: best.max(1e-9),
        }
    }

    /// Returns a file's score as a share of the best one.
    pub(crate) fn relative(&self, slot: Slot) -> f32 {
        self.scores.get(slot) / self.best
    }

    /// Writes 1/(10 + place) of every file that has one to its row, `at` the signal's column.
    pub(crate) fn write_places<const N: usize>(
        &self,
        row_of: impl Fn(Slot) -> Option<usize>,
        at: usize,
        rows: &mut [[f32; N]],
    ) {
        for (place, &slot) in self.order.iter().enumerate() {
            if let Some(row) = row_of(slot).and_then(|row| rows.get_mut(row)) {
                row[at] = 1.0 / (10.0 + place as f32);
            }
        }
    }
}

/// Returns the sum of weight/(20 + place) over signals, as reciprocal rank fusion does.
pub(crate) fn fused(n_slots: usize, columns: &[(&Column, f32)]) -> Scores {
    let mut scores = Scores::new(n_slots);
    for (column, weight) in columns {
        for (at, &slot) in column.order.iter().enumerate() {
            scores.add(slot, weight / (20.0 + at as f32));
        }
    }
    scores
}
