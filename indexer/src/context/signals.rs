//! Which files a completion at a cursor needs: what each part of the index says, ranked together.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use super::CursorQuery;
use crate::{
    graph::{Imports, MAX_DEFINERS},
    path::{RepoPath, name_hash},
    rank::{self, signals},
    reader::{Reader, Slot},
    search::{
        query_terms,
        scores::{Column, Scores},
    },
    syntax::NameStyle,
    text::{
        analyse,
        score::{ChunkScore, FileScore, QueryTerm},
    },
};

/// Lines on each side of the cursor whose names count.
const REACH: usize = 400;
/// A name farther away by this many lines counts 1/e as much.
const DECAY: f32 = 30.0;
/// The same, for what is at hand.
const SHORT_DECAY: f32 = 5.0;
/// What a definer counts more when its file is imported, by [`Imports::closeness`].
const IMPORTED: [f32; 4] = [1.0, 4.0, 6.0, 7.0];
/// Lines before the cursor that similar code is looked for with.
const SIMILAR_LINES: usize = 25;
const SIMILAR_TERMS: usize = 12;
/// Files whose own uses are followed: those beside this one, and those like it.
const N_PEERS: usize = 5;
/// Files each signal may name.
const N_CANDIDATES: usize = 60;
const N_BESIDE: usize = 40;

// Scores are relative to the best of the answer; places are 1/(10 + place), 0 when not named.
signals! {
    /// One column of what the ranker of files near a cursor sees.
    pub(crate) enum CursorSignal;
    pub(crate) const N_CURSOR_SIGNALS;

    Near => "defines names near the cursor",
    NearPlace => "defines names near the cursor, place",
    AtHand => "defines names on the last lines",
    AtHandPlace => "defines names on the last lines, place",
    NearCount => "names near the cursor it defines",
    Used => "defines names this file uses",
    UsedPlace => "defines names this file uses, place",
    Imported => "is imported",
    ImportedNames => "defines names of the imports",
    Peers => "used by the files beside this one",
    PeersPlace => "used by the files beside this one, place",
    Alike => "used by files with similar code",
    AlikePlace => "used by files with similar code, place",
    Together => "changes together with this file",
    TogetherPlace => "changes together with this file, place",
    Recent => "changed recently",
    LongTerm => "changed often",
    Beside => "beside this file",
    SharedFolders => "share of folders in common",
    Words => "has the words of the last lines",
    WordsPlace => "has the words of the last lines, place",
    Chunk => "has similar code",
    Symbols => "names things after the last lines",
    SymbolsPlace => "names things after the last lines, place",
    Path => "is named after the last lines",
    SameLanguage => "same language",
    IsTest => "is a test",
    HereIsTest => "this file is a test",
    LinesLog => "length",
    DefinitionsLog => "definitions",
}

/// The files a completion may need, and who defines the names near it.
pub(super) struct CursorSignals {
    pub(super) slots: Vec<Slot>,
    pub(super) rows: Vec<[f32; N_CURSOR_SIGNALS]>,
}

/// Who defines the names near the cursor, weighted.
pub(super) struct Wanted {
    pub(super) definitions: BTreeMap<(Slot, u32), f32>,
    near: Scores,
    at_hand: Scores,
    counts: Scores,
}

/// How near a name is.
struct Near {
    /// The sum over its uses of e^(−lines/[`DECAY`]), later ones less.
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
            counts: Scores::new(n_slots),
        };
        let mut definers = Vec::new();
        for (name, near) in names_near(query.text, query.cursor) {
            self.definers_into(name, MAX_DEFINERS, &mut definers);
            if here.is_some_and(|here| definers.contains(&here)) {
                continue;
            }
            let share = weight_of(near.style) / definers.len() as f32;
            for &slot in &definers {
                let kind = self.kind(slot);
                let closeness = uses.imports.closeness(&kind.words);
                let mut share = share * IMPORTED[usize::from(closeness)];
                if kind.is_test && !is_test {
                    share *= 0.1;
                }
                wanted.near.add(slot, share * near.weight);
                wanted.at_hand.add(slot, share * near.at_hand);
                wanted.counts.add(slot, 1.0);
                wanted.definitions.insert((slot, name), share * near.weight);
            }
        }
        wanted
    }

    /// Returns the chunks and files that use the same words as the lines before the cursor.
    pub(super) fn alike(&self, query: &CursorQuery<'_>) -> Alike {
        let terms = self.last_terms(query);
        let here = self.slot(query.path);
        let mut text = self.text_scores(&terms, here);
        text.chunks.retain(|chunk| Some(chunk.slot) != here);
        let n_slots = self.n_slots();
        let column = |score: fn(&FileScore) -> f32| {
            let mut scores = Scores::new(n_slots);
            for &slot in text.found.iter().filter(|&&slot| Some(slot) != here) {
                scores.add(slot, score(&text.files[slot as usize]));
            }
            Column::new(scores)
        };
        Alike {
            words: column(|file| file.file),
            chunks: column(|file| file.chunks[0]),
            symbols: column(|file| file.symbols),
            paths: Column::new(self.path_scores(&terms)),
            best: text.chunks,
        }
    }

    /// Returns the rarest terms of the lines before the cursor.
    fn last_terms(&self, query: &CursorQuery<'_>) -> Vec<QueryTerm> {
        let before = &query.text[..query.text.floor_char_boundary(query.cursor)];
        let recent: Vec<&str> = before.lines().rev().take(SIMILAR_LINES).collect();
        let mut terms: Vec<QueryTerm> = query_terms(&recent.join("\n"))
            .into_iter()
            .map(|term| QueryTerm {
                weight: self.base.text.idf(&term.text),
                ..term
            })
            .collect();
        terms.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        terms.truncate(SIMILAR_TERMS);
        for term in &mut terms {
            term.weight = 1.0;
        }
        terms
    }

    /// Gathers the candidates and what is known of them.
    pub(super) fn cursor_signals(
        &self,
        query: &CursorQuery<'_>,
        wanted: Wanted,
        alike: &Alike,
    ) -> CursorSignals {
        let n_slots = self.n_slots();
        let here = self.slot(query.path);
        let near = Column::new(wanted.near);
        let at_hand = Column::new(wanted.at_hand);
        let mut used = Scores::new(n_slots);
        let mut named = Scores::new(n_slots);
        let mut imported = Scores::new(n_slots);
        if let Some(here) = here {
            for edge in self.edges(here, &FxHashSet::default()) {
                used.add(edge.to, edge.weight);
            }
            let uses = self.uses_at(here);
            self.follow_imports(&uses.imports, query.path, &mut imported, &mut named);
        }
        let used = Column::new(used);
        let named = Column::new(named);

        let beside = self.beside(query.path);
        let mut peers = Scores::new(n_slots);
        for &(peer, closeness) in beside.iter().take(N_PEERS) {
            for edge in self.edges(peer, &FxHashSet::default()) {
                peers.add(edge.to, closeness * edge.weight);
            }
        }
        let peers = Column::new(peers);
        let mut used_alike = Scores::new(n_slots);
        for &slot in alike.chunks.order.iter().take(N_PEERS) {
            let likeness = alike.chunks.relative(slot);
            for edge in self.edges(slot, &FxHashSet::default()) {
                used_alike.add(edge.to, likeness * edge.weight);
            }
        }
        let used_alike = Column::new(used_alike);
        let seeds: Vec<(Slot, f32)> = here.into_iter().map(|here| (here, 1.0)).collect();
        let together = Column::new(self.together(&seeds));
        let (recent, long_term) = self.recency();
        let (recent_best, long_best) = (recent.best().max(1e-9), long_term.best().max(1e-9));

        let columns = [
            &near,
            &at_hand,
            &used,
            &named,
            &peers,
            &used_alike,
            &together,
            &alike.words,
            &alike.symbols,
        ];
        let mut slots: Vec<Slot> = columns
            .iter()
            .flat_map(|column| column.order.iter().take(N_CANDIDATES).copied())
            .chain(beside.iter().map(|&(slot, _)| slot))
            .chain(imported.order(N_CANDIDATES))
            .filter(|&slot| Some(slot) != here)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| self.entry(slot).unit.is_some());

        let here_is_test = here.is_some_and(|here| self.kind(here).is_test);
        let language = here.map(|here| self.entry(here).language);
        let folders: Vec<&str> = query.path.parent().split('/').collect();
        let closeness_of = |slot: Slot| {
            let found = beside.iter().find(|&&(other, _)| other == slot);
            found.map_or(0.0, |&(_, closeness)| closeness)
        };
        let flag = |is: bool| f32::from(u8::from(is));
        let mut rows: Vec<[f32; N_CURSOR_SIGNALS]> = slots
            .iter()
            .map(|&slot| {
                use CursorSignal as S;
                let entry = self.entry(slot);
                let shared = entry.path.parent().split('/').zip(&folders);
                let shared = shared.take_while(|(a, b)| a == *b).count();
                let mut row = [0.0; N_CURSOR_SIGNALS];
                let mut set = |signal: S, value: f32| row[signal as usize] = value;
                set(S::Near, near.relative(slot));
                set(S::AtHand, at_hand.relative(slot));
                set(S::NearCount, wanted.counts.get(slot).ln_1p());
                set(S::Used, used.relative(slot));
                set(S::Imported, imported.get(slot));
                set(S::ImportedNames, named.relative(slot));
                set(S::Peers, peers.relative(slot));
                set(S::Alike, used_alike.relative(slot));
                set(S::Together, together.relative(slot));
                set(S::Recent, recent.get(slot) / recent_best);
                set(S::LongTerm, long_term.get(slot) / long_best);
                set(S::Beside, closeness_of(slot));
                set(S::SharedFolders, shared as f32 / folders.len() as f32);
                set(S::Words, alike.words.relative(slot));
                set(S::Chunk, alike.chunks.relative(slot));
                set(S::Symbols, alike.symbols.relative(slot));
                set(S::Path, alike.paths.relative(slot));
                set(S::SameLanguage, flag(Some(entry.language) == language));
                set(S::IsTest, flag(self.kind(slot).is_test));
                set(S::HereIsTest, flag(here_is_test));
                set(S::LinesLog, (entry.n_lines as f32).ln_1p());
                set(S::DefinitionsLog, (entry.n_definitions as f32).ln_1p());
                row
            })
            .collect();
        let places = [
            (CursorSignal::NearPlace, &near),
            (CursorSignal::AtHandPlace, &at_hand),
            (CursorSignal::UsedPlace, &used),
            (CursorSignal::PeersPlace, &peers),
            (CursorSignal::AlikePlace, &used_alike),
            (CursorSignal::TogetherPlace, &together),
            (CursorSignal::WordsPlace, &alike.words),
            (CursorSignal::SymbolsPlace, &alike.symbols),
        ];
        for (signal, column) in places {
            let row_of = |slot| slots.binary_search(&slot).ok();
            column.write_places(row_of, signal as usize, &mut rows);
        }
        CursorSignals { slots, rows }
    }

    /// Finds the files that imports name, and those that define a name written in one.
    fn follow_imports(
        &self,
        imports: &Imports,
        from: &RepoPath,
        files: &mut Scores,
        names: &mut Scores,
    ) {
        let mut words: Vec<u32> = imports.words().to_vec();
        words.sort_unstable();
        words.dedup();
        for word in words {
            for &slot in self.base.stems.slots(word) {
                if self.overlay.gone.contains(&slot) {
                    continue;
                }
                let closeness = imports.closeness(&self.path_words(slot));
                // A bare name means the one at hand before any other.
                let is_beside = self.entry(slot).path.parent() == from.parent();
                let bonus = if is_beside { 0.5 } else { 0.0 };
                files.raise(slot, f32::from(closeness) + bonus);
            }
        }
        let mut definers = Vec::new();
        for &name in imports.names() {
            self.definers_into(name, MAX_DEFINERS, &mut definers);
            let share = 1.0 / definers.len().max(1) as f32;
            for &slot in &definers {
                let closeness = imports.closeness(&self.path_words(slot));
                names.add(slot, share * IMPORTED[usize::from(closeness)]);
            }
        }
    }

    /// Returns the files beside a path: another ending of the same name (header, style, test
    /// left out), then the same folder. With how close they are, 0 to 1.
    fn beside(&self, path: &RepoPath) -> Vec<(Slot, f32)> {
        let files = &self.base.files;
        let parent = path.parent();
        let from = files.partition_point(|file| file.path.as_str() < parent);
        let ending = |path: &RepoPath| -> Option<String> {
            let (_, ending) = path.file_name().rsplit_once('.')?;
            Some(ending.to_owned())
        };
        let language = ending(path);
        let mut beside: Vec<(Slot, f32)> = files[from..]
            .iter()
            .enumerate()
            .take_while(|(_, file)| file.path.as_str().starts_with(parent))
            .take(2_000)
            .filter(|(_, file)| file.path.parent() == parent && file.path != *path)
            .filter(|(_, file)| file.language.is_code())
            .map(|(at, file)| {
                let same_stem = file.path.stem() == path.stem();
                let closeness = match (same_stem, ending(&file.path) == language) {
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

impl CursorSignals {
    /// Returns (slot, score, strongest reason), best first, at most `n`.
    pub(super) fn ranked(&self, n: usize) -> Vec<(Slot, f32, &'static str)> {
        let ranked = rank::CURSOR.rank(&self.rows).into_iter().take(n);
        ranked
            .map(|(row, score)| {
                let reasons = rank::CURSOR.explain(&self.rows[row]);
                let reason = reasons.first().map_or("", |reason| reason.signal);
                (self.slots[row], score, reason)
            })
            .collect()
    }
}

/// What uses the same words as the lines before the cursor.
pub(super) struct Alike {
    words: Column,
    chunks: Column,
    symbols: Column,
    paths: Column,
    /// The best chunks, falling.
    pub(super) best: Vec<ChunkScore>,
}

fn weight_of(style: NameStyle) -> f32 {
    match style {
        NameStyle::Descriptive => 1.5,
        NameStyle::Plain => 1.0,
        NameStyle::Private => 0.3,
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
