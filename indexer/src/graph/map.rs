//! The repository map: the definitions that matter most for what is in focus, signatures only,
//! within a budget of tokens.
//!
//! Files are ranked by personalised PageRank; a file's rank flows along its edges to the
//! definitions it uses; the best definitions are shown under their files and enclosing
//! definitions. Without focus every file is a seed. The method is aider's (`repomap.py`), the
//! square root of the uses taken once.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::{DAMPING, Edge, Seeds};
use crate::{
    path::{RepoPath, Tokens, name_hash},
    reader::{Reader, Slot},
    syntax::{Definition, DefinitionKind, NameStyle, Unit},
    text::analyse,
    walk::class,
};

/// What the map is for.
#[derive(Clone, Debug)]
pub struct MapQuery<'q> {
    pub budget: Tokens,
    /// Files in play; they are not shown themselves.
    pub focus: &'q [RepoPath],
    /// Names or prose the user wrote; names in it count ten times, and files that define them are seeds.
    pub mentioned: &'q str,
}

/// A rendered map.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoMap {
    pub text: String,
    pub tokens: Tokens,
    pub n_files: usize,
    pub n_definitions: usize,
}

/// Edges kept of one file when all are ranked: bounds memory at 600 bytes a file.
const MAX_EDGES: usize = 48;
const ROUNDS: usize = 20;
const FOCUS_STEPS: usize = 1_500;
/// Definitions considered; far more than fit in any prompt.
const MAX_DEFINITIONS: usize = 20_000;
/// Definitions looked at for each that may fit.
const LOOKED_AT: usize = 8;

impl Reader {
    /// Renders the map.
    ///
    /// With a focus it costs what the neighbourhood costs (milliseconds); without one it ranks
    /// every file: 0.1 s for 10,000 files, seconds for 200,000.
    pub fn map(&self, query: &MapQuery<'_>) -> RepoMap {
        let seeds = self.map_seeds(query);
        let focus: FxHashSet<Slot> = query
            .focus
            .iter()
            .filter_map(|path| self.slot(path))
            .collect();
        let ranked = if seeds.files.is_empty() {
            self.rank_all(&seeds.mentioned)
        } else {
            self.rank_around(&seeds)
        };
        let mut ranked: Vec<((Slot, u32), f32)> = ranked
            .into_iter()
            .filter(|((slot, _), _)| !focus.contains(slot))
            .map(|((slot, name), rank)| {
                let is_test = class::is_test(self.entry(slot).path.as_str());
                ((slot, name), if is_test { rank * 0.1 } else { rank })
            })
            .collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(MAX_DEFINITIONS);

        // Most definitions cost 6 to 20 tokens, so the search starts near the answer.
        let guess = query.budget.0 as usize / 12;
        let mut units: FxHashMap<Slot, Option<Arc<Unit>>> = FxHashMap::default();
        self.weigh_kinds(&mut ranked, LOOKED_AT * guess + LOOKED_AT, &mut units);
        let (mut fits, mut too_many) = (0, ranked.len() + 1);
        let mut best = RepoMap::empty();
        let mut guess = guess.clamp(1, ranked.len().max(1));
        while fits + 1 < too_many {
            let map = self.render(&ranked[..guess.min(ranked.len())], &mut units);
            if map.tokens <= query.budget {
                fits = guess;
                best = map;
            } else {
                too_many = guess;
            }
            guess = match too_many {
                n if n > ranked.len() => (2 * fits).min(ranked.len()),
                n => fits.midpoint(n),
            };
        }
        best
    }

    fn map_seeds(&self, query: &MapQuery<'_>) -> Seeds {
        let mut seeds = Seeds::default();
        seeds.files.extend(
            query
                .focus
                .iter()
                .filter_map(|path| Some((self.slot(path)?, 50.0))),
        );
        analyse::words(query.mentioned, |_, word| {
            let name = name_hash(word.as_bytes());
            let definers = self.definers(name, super::MAX_DEFINERS);
            if !definers.is_empty() {
                seeds.mentioned.insert(name);
                seeds
                    .files
                    .extend(definers.into_iter().map(|slot| (slot, 1.0)));
            }
        });
        seeds
    }

    /// Ranks definitions around the seeds.
    fn rank_around(&self, seeds: &Seeds) -> FxHashMap<(Slot, u32), f32> {
        let mut definitions = FxHashMap::default();
        for (slot, rank) in self.ranks(seeds, FOCUS_STEPS).iter() {
            flow(&self.edges(slot, &seeds.mentioned), rank, &mut definitions);
        }
        definitions
    }

    /// Ranks definitions of the whole workspace by power iteration from every file.
    fn rank_all(&self, mentioned: &FxHashSet<u32>) -> FxHashMap<(Slot, u32), f32> {
        let n_slots = self.n_slots();
        let slots: Vec<Slot> = (0..n_slots as Slot).collect();
        let edges: Vec<Vec<Edge>> = slots
            .par_iter()
            .map(|&slot| {
                let mut edges = self.edges(slot, mentioned);
                edges.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight));
                edges.truncate(MAX_EDGES);
                edges.shrink_to_fit();
                edges
            })
            .collect();
        let start = 1.0 / n_slots.max(1) as f32;
        let mut ranks = vec![start; n_slots];
        for _ in 0..ROUNDS {
            let mut next = vec![0.0; n_slots];
            let mut kept = 0.0;
            for (edges, &rank) in edges.iter().zip(&ranks) {
                let sum: f32 = edges.iter().map(|edge| edge.weight).sum();
                if sum == 0.0 {
                    kept += rank;
                }
                for edge in edges {
                    next[edge.to as usize] += DAMPING * rank * edge.weight / sum;
                }
            }
            let everywhere = (1.0 - DAMPING + DAMPING * kept) * start;
            for rank in &mut next {
                *rank += everywhere;
            }
            ranks = next;
        }
        let mut definitions = FxHashMap::default();
        for (edges, &rank) in edges.iter().zip(&ranks) {
            flow(edges, rank, &mut definitions);
        }
        definitions
    }

    /// Weighs the first `n` definitions by what they are, and drops those that a map does not show.
    fn weigh_kinds(
        &self,
        ranked: &mut Vec<((Slot, u32), f32)>,
        n: usize,
        units: &mut FxHashMap<Slot, Option<Arc<Unit>>>,
    ) {
        ranked.truncate(n);
        ranked.retain_mut(|((slot, name), rank)| {
            let unit = units.entry(*slot).or_insert_with(|| self.unit_at(*slot));
            let Some(unit) = unit else { return false };
            let definitions = unit.definitions.iter();
            let named = definitions.filter(|d| name_hash(d.name.as_bytes()) == *name);
            *rank *= named.map(|d| worth(unit, d)).fold(0.0, f32::max);
            *rank > 0.0
        });
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }

    fn render(
        &self,
        ranked: &[((Slot, u32), f32)],
        units: &mut FxHashMap<Slot, Option<Arc<Unit>>>,
    ) -> RepoMap {
        let mut by_file: BTreeMap<&RepoPath, (Slot, FxHashSet<u32>)> = BTreeMap::new();
        for &((slot, name), _) in ranked {
            let path = &self.entry(slot).path;
            by_file
                .entry(path)
                .or_insert_with(|| (slot, FxHashSet::default()))
                .1
                .insert(name);
        }
        let mut map = RepoMap::empty();
        for (path, (slot, names)) in by_file {
            let unit = units.entry(slot).or_insert_with(|| self.unit_at(slot));
            let Some(unit) = unit else { continue };
            let lines = outline(unit, &names);
            if lines.is_empty() {
                continue;
            }
            map.n_files += 1;
            map.n_definitions += lines.len();
            let _ = writeln!(map.text, "{path}:");
            for (depth, signature) in lines {
                let _ = writeln!(map.text, "{:1$}{signature}", "", 2 + 2 * depth);
            }
        }
        map.tokens = Tokens::estimate(&map.text);
        map
    }
}

impl RepoMap {
    fn empty() -> Self {
        Self {
            text: String::new(),
            tokens: Tokens(0),
            n_files: 0,
            n_definitions: 0,
        }
    }
}

/// How much of its rank a definition keeps. Names bind files, and a field or a method of one plain
/// word (`is_empty`, `iter`) shares its name with what the language's own library has: most of its
/// rank is meant for that.
fn worth(unit: &Unit, definition: &Definition) -> f32 {
    let around = definition
        .parent
        .map(|at| unit.definitions[at as usize].kind);
    let is_member = matches!(
        around,
        Some(DefinitionKind::Class | DefinitionKind::Interface | DefinitionKind::Implementation)
    );
    match definition.kind {
        DefinitionKind::Function | DefinitionKind::Method | DefinitionKind::Constant
            if is_member && NameStyle::of(&definition.name) != NameStyle::Descriptive =>
        {
            0.1
        }
        DefinitionKind::Function
        | DefinitionKind::Method
        | DefinitionKind::Class
        | DefinitionKind::Interface
        | DefinitionKind::Type
        | DefinitionKind::Constant
        | DefinitionKind::Macro => 1.0,
        DefinitionKind::Declaration => 0.5,
        DefinitionKind::Implementation
        | DefinitionKind::Module
        | DefinitionKind::Field
        | DefinitionKind::Section => 0.0,
    }
}

/// Passes a file's rank to the definitions it uses.
fn flow(edges: &[Edge], rank: f32, into: &mut FxHashMap<(Slot, u32), f32>) {
    let sum: f32 = edges.iter().map(|edge| edge.weight).sum();
    for edge in edges {
        *into.entry((edge.to, edge.name)).or_default() += rank * edge.weight / sum;
    }
}

/// Returns (depth, signature) of the wanted definitions and of those around them, in order.
fn outline<'u>(unit: &'u Unit, names: &FxHashSet<u32>) -> Vec<(usize, &'u str)> {
    let mut shown = vec![false; unit.definitions.len()];
    for (at, definition) in unit.definitions.iter().enumerate() {
        if worth(unit, definition) == 0.0 || !names.contains(&name_hash(definition.name.as_bytes()))
        {
            continue;
        }
        let mut next = Some(at as u32);
        while let Some(at) = next {
            shown[at as usize] = true;
            next = unit.definitions[at as usize].parent;
        }
    }
    let depth = |at: usize| {
        std::iter::successors(unit.definitions[at].parent, |&parent| {
            unit.definitions[parent as usize].parent
        })
        .count()
    };
    let mut lines: Vec<(usize, &str)> = Vec::new();
    for (at, definition) in unit
        .definitions
        .iter()
        .enumerate()
        .filter(|&(at, _)| shown[at])
    {
        let line = (depth(at), definition.signature.as_str());
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}
