//! Which files a completion at a cursor needs: those that define the names near it.
//!
//! Names weigh e^(−lines/30), shared among those who define them and more where the file imports
//! the definer. What else could be asked (files beside this one and what they use, similar code,
//! what changes together, resolved imports alone, and trees over all of it) measured no better on
//! repositories it was not fitted on; some of it only orders files that define none of the names.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use super::{CursorQuery, Relevant};
use crate::{
    graph::MAX_DEFINERS,
    path::{RepoPath, name_hash},
    reader::{Reader, Slot},
    search::scores::{Column, Scores, fused},
    syntax::NameStyle,
    text::analyse,
};

/// Lines on each side of the cursor whose names count.
const REACH: usize = 400;
/// A name farther away by this many lines counts 1/e as much.
const DECAY: f32 = 30.0;
/// The same, for what is at hand.
const SHORT_DECAY: f32 = 5.0;
/// What a definer counts more when its file is imported, by `Imports::closeness`.
const IMPORTED: [f32; 4] = [1.0, 4.0, 6.0, 7.0];
const N_PEERS: usize = 4;
const N_BESIDE: usize = 12;

/// Who defines the names near the cursor, weighted.
pub(super) struct Wanted {
    pub(super) definitions: BTreeMap<(Slot, u32), f32>,
    near: Scores,
    at_hand: Scores,
}

/// How near a name is.
struct Near {
    /// The nearest use's e^(−lines/[`DECAY`]), other uses added at a tenth.
    weight: f32,
    at_hand: f32,
    style: NameStyle,
}

impl Reader {
    /// Finds who defines the names near the cursor.
    pub(super) fn wanted(&self, query: &CursorQuery<'_>) -> Wanted {
        let here = self.slot(query.path);
        let uses = here.map(|here| self.uses_at(here)).unwrap_or_default();
        let is_test = here.is_some_and(|here| self.kind(here).is_test);
        let n_slots = self.n_slots();
        let mut wanted = Wanted {
            definitions: BTreeMap::new(),
            near: Scores::new(n_slots),
            at_hand: Scores::new(n_slots),
        };
        let mut definers = Vec::new();
        for (name, near) in names_near(query.text, query.cursor) {
            self.definers_into(name, MAX_DEFINERS, &mut definers);
            if here.is_some_and(|here| definers.contains(&here)) {
                continue;
            }
            let style = match near.style {
                NameStyle::Descriptive => 1.5,
                NameStyle::Plain => 1.0,
                NameStyle::Private => 0.3,
            };
            for &slot in &definers {
                let kind = self.kind(slot);
                let closeness = uses.imports.closeness(&kind.words);
                let mut share = style * IMPORTED[usize::from(closeness)] / definers.len() as f32;
                if kind.is_test && !is_test {
                    share *= 0.1;
                }
                wanted.near.add(slot, share * near.weight);
                wanted.at_hand.add(slot, share * near.at_hand);
                wanted.definitions.insert((slot, name), share * near.weight);
            }
        }
        wanted
    }

    /// Orders files by the names near the cursor, then by the names of the whole file; what the
    /// files beside it use and what changes together with it comes after those.
    pub(super) fn weigh(&self, query: &CursorQuery<'_>, wanted: Wanted) -> Vec<Relevant> {
        let n_slots = self.n_slots();
        let here = self.slot(query.path);
        let (mut used, mut peers) = (Scores::new(n_slots), Scores::new(n_slots));
        if let Some(here) = here {
            for edge in self.edges(here, &FxHashSet::default()) {
                used.add(edge.to, edge.weight);
            }
        }
        let beside = self.beside(query.path);
        let mut close = Scores::new(n_slots);
        for &(slot, closeness) in &beside {
            close.add(slot, closeness);
        }
        for &(peer, _) in beside.iter().take(N_PEERS) {
            for edge in self.edges(peer, &FxHashSet::default()) {
                peers.add(edge.to, edge.weight);
            }
        }
        let seeds: Vec<(Slot, f32)> = here.into_iter().map(|here| (here, 1.0)).collect();
        let parts = [
            (wanted.near, 1.0, "defines names near the cursor"),
            (wanted.at_hand, 0.2, "defines names on the last lines"),
            (used, 0.06, "defines names this file uses"),
            (peers, 0.01, "used by the files beside this one"),
            (
                self.together(&seeds),
                0.01,
                "changes together with this file",
            ),
            (close, 0.005, "beside this file"),
        ]
        .map(|(scores, weight, reason)| (Column::new(scores), weight, reason));
        let candidates = parts.each_ref().map(|(column, _, _)| (column, 1.0));
        let mut near: Vec<(Slot, f32, &'static str)> = fused(n_slots, &candidates)
            .iter()
            .filter(|&(slot, _)| Some(slot) != here)
            .map(|(slot, _)| {
                let shares = parts
                    .iter()
                    .map(|(column, weight, reason)| (weight * column.relative(slot), *reason));
                let score = shares.clone().map(|(share, _)| share).sum();
                let most = shares.max_by(|a, b| a.0.total_cmp(&b.0));
                (slot, score, most.map_or("", |(_, reason)| reason))
            })
            .collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.into_iter()
            .take(query.limit)
            .map(|(slot, score, reason)| Relevant {
                path: self.entry(slot).path.clone(),
                score,
                reason,
            })
            .collect()
    }

    /// Returns the files beside a path: another ending of the same name (header, style), then the
    /// same folder. With how close they are, 0 to 1.
    fn beside(&self, path: &RepoPath) -> Vec<(Slot, f32)> {
        let files = &self.base.files;
        let parent = path.parent();
        let from = files.partition_point(|file| file.path.as_str() < parent);
        let language = path.file_name().rsplit_once('.').map(|(_, ending)| ending);
        let mut beside: Vec<(Slot, f32)> = files[from..]
            .iter()
            .enumerate()
            .take_while(|(_, file)| file.path.as_str().starts_with(parent))
            .take(2_000)
            .filter(|(_, file)| file.path.parent() == parent && file.path != *path)
            .filter(|(_, file)| file.language.is_code())
            .map(|(at, file)| {
                let same_stem = file.path.stem() == path.stem();
                let ending = file.path.file_name().rsplit_once('.').map(|(_, e)| e);
                let closeness = match (same_stem, ending == language) {
                    (true, _) => 1.0,
                    (false, true) => 0.5,
                    (false, false) => 0.2,
                };
                ((from + at) as Slot, closeness)
            })
            .filter(|(slot, _)| !self.overlay.gone.contains(slot))
            .collect();
        beside.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        beside.truncate(N_BESIDE);
        beside
    }
}

fn names_near(text: &str, cursor: usize) -> BTreeMap<u32, Near> {
    let cursor = text.floor_char_boundary(cursor);
    let mut names: BTreeMap<u32, Near> = BTreeMap::new();
    let mut add = |line: &str, distance: usize, is_before: bool| {
        let weight = (-(distance as f32) / DECAY).exp();
        let at_hand = (-(distance as f32) / SHORT_DECAY).exp();
        analyse::words(line, |_, word| {
            if word.len() >= 2 && word.len() <= 120 && !word.as_bytes()[0].is_ascii_digit() {
                let near = names
                    .entry(name_hash(word.as_bytes()))
                    .or_insert_with(|| Near {
                        weight: 0.0,
                        at_hand: 0.0,
                        style: NameStyle::of(word),
                    });
                near.weight = near.weight.max(weight) + 0.1 * weight;
                if is_before {
                    near.at_hand = near.at_hand.max(at_hand);
                }
            }
        });
    };
    for (distance, line) in text[..cursor].lines().rev().take(REACH).enumerate() {
        add(line, distance, true);
    }
    for (distance, line) in text[cursor..].lines().take(REACH).enumerate() {
        add(line, distance, false);
    }
    names
}
