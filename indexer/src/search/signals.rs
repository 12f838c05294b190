//! The signals: what each part of the index says of a file, for one question.

use rustc_hash::FxHashMap;

use super::{
    MAX_QUERY, N_CHUNKS, Query, query_terms,
    scores::{Column, Scores, fused},
};
use crate::{
    graph::Seeds,
    path::{RepoPath, name_hash},
    rank::signals,
    reader::{Reader, Slot},
    syntax::{Language, NameStyle},
    text::{
        analyse,
        paths::{idf, weight_in},
        score::{ChunkScore, FileScore, QueryTerm, TextScores},
    },
    vector::embed,
    walk::class,
};

/// Files each signal may name.
const N_CANDIDATES: usize = 100;
/// Lexical hits from which rank flows and changes are followed.
const N_SEEDS: usize = 15;
/// Steps of rank flow: some milliseconds.
const RANK_STEPS: usize = 60;
const N_NEAR_CHUNKS: usize = 300;
const OPEN: f32 = 50.0;
const MENTIONED: f32 = 10.0;

// Scores are relative to the best of the answer; places are 1/(10 + place), 0 when not named.
signals! {
    /// One column of what the ranker of files sees.
    pub(crate) enum Signal;
    pub(crate) const N_SIGNALS;

    Words => "words in file",
    WordsPlace => "words in file, place",
    Chunks => "words in best chunks",
    ChunksPlace => "words in best chunks, place",
    BestChunk => "words in best chunk",
    Coverage => "share of the question found",
    Density => "words in file, of all possible",
    Path => "words in path",
    PathPlace => "words in path, place",
    Symbols => "words in symbols",
    SymbolsPlace => "words in symbols, place",
    Defines => "defines a name in the question",
    NamesFile => "file is named in the question",
    Neighbours => "similar past commits",
    NeighboursPlace => "similar past commits, place",
    Messages => "past messages about it",
    MessagesPlace => "past messages about it, place",
    Together => "changes with the best hits",
    TogetherPlace => "changes with the best hits, place",
    Recent => "changed recently",
    RecentPlace => "changed recently, place",
    LongTerm => "changed often",
    LongTermPlace => "changed often, place",
    Rank => "used by the best hits",
    RankPlace => "used by the best hits, place",
    Meaning => "meaning",
    MeaningPlace => "meaning, place",
    MeaningMargin => "meaning, above the median",
    Fused => "places of words, chunks, path and symbols",
    FusedPlace => "places of words, chunks, path and symbols, place",
    FusedAll => "places of all signals",
    IsTest => "is a test",
    AsksTest => "question is about tests",
    IsCode => "is code",
    LanguageShare => "share of the language",
    LinesLog => "length",
    DefinitionsLog => "definitions",
    Depth => "folder depth",
    TermsLog => "length of the question",
    SiblingHit => "best hit in its folder",
}

/// The candidates of one question and what is known of them.
pub(crate) struct Signals {
    pub(crate) slots: Vec<Slot>,
    pub(crate) rows: Vec<[f32; N_SIGNALS]>,
    chunks: Vec<ChunkScore>,
}

impl Signals {
    /// Takes the best chunks of each file, at most `n` each.
    pub(super) fn chunks_by_file(&mut self, n: usize) -> FxHashMap<Slot, Vec<ChunkScore>> {
        let mut by_file: FxHashMap<Slot, Vec<ChunkScore>> = FxHashMap::default();
        for chunk in std::mem::take(&mut self.chunks) {
            let chunks = by_file.entry(chunk.slot).or_default();
            if chunks.len() < n && chunks.iter().all(|other| other.chunk != chunk.chunk) {
                chunks.push(chunk);
            }
        }
        by_file
    }
}

impl Reader {
    pub(crate) fn signals(&self, query: &Query<'_>) -> Signals {
        let asked = query.text;
        let terms = query_terms(asked);
        let mut text = self.text_scores(&terms, None);
        let (n_terms, n_slots) = (terms.len(), self.n_slots());
        let mut of_text = [(); 3].map(|()| Scores::new(n_slots));
        for &slot in &text.found {
            let file = &text.files[slot as usize];
            let parts = [file.file, file.best_three(), file.symbols];
            for (scores, score) in of_text.iter_mut().zip(parts) {
                scores.add(slot, score);
            }
        }
        let [words, chunks, symbols] = of_text.map(Column::new);
        let paths = Column::new(self.path_scores(&terms));
        let (defines, names_file) = self.pointed_at(query);

        let (neighbours, messages) = self.message_scores(&terms);
        let (neighbours, messages) = (Column::new(neighbours), Column::new(messages));
        let (recent, long_term) = self.overlay.recency.get_or_init(|| self.recency());

        let mut lexical = Scores::new(n_slots);
        let parts = [
            (&words, 1.0),
            (&chunks, 1.0),
            (&paths, 0.5),
            (&symbols, 0.5),
        ];
        for (slot, score) in fused(n_slots, &parts).iter() {
            let weight = if self.kind(slot).is_test { 0.5 } else { 1.0 };
            lexical.add(slot, weight * score);
        }
        let lexical = Column::new(lexical);
        let seeds: Vec<(Slot, f32)> = lexical
            .order
            .iter()
            .take(N_SEEDS)
            .map(|&slot| (slot, lexical.relative(slot)))
            .chain(
                query
                    .open
                    .iter()
                    .filter_map(|path| Some((self.slot(path)?, OPEN))),
            )
            .chain(defines.iter().map(|(slot, _)| (slot, MENTIONED)))
            .collect();
        let together = Column::new(self.together(&seeds));
        let mentioned = query
            .mentioned
            .iter()
            .map(|name| name_hash(name.as_bytes()))
            .collect();
        let rank = Column::new(self.ranks(
            &Seeds {
                files: seeds,
                mentioned,
            },
            RANK_STEPS,
        ));
        let (meaning, near) = self.meaning(query);
        let median = median(meaning.iter().map(|(_, cosine)| cosine));
        let meaning = Column::new(meaning);

        let all = [
            (&words, 1.0),
            (&chunks, 1.0),
            (&paths, 0.5),
            (&symbols, 0.5),
            (&neighbours, 0.7),
            (&messages, 0.7),
            (&together, 0.4),
            (recent, 0.3),
            (&rank, 0.3),
            (&meaning, 0.5),
        ];
        let everything = Column::new(fused(n_slots, &all));
        let mut slots: Vec<Slot> = Vec::new();
        for (column, _) in all.iter().chain([&(&lexical, 1.0), &(&everything, 1.0)]) {
            slots.extend(column.order.iter().take(N_CANDIDATES));
        }
        slots.extend(
            defines
                .iter()
                .chain(names_file.iter())
                .map(|(slot, _)| slot),
        );
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| self.entry(slot).class == class::FileClass::Content);

        let asks_test = asks_about_tests(asked);
        let shares = self.language_shares();
        let best_in_folder = self.best_in_folder(&lexical);
        let best_chunk = text
            .found
            .iter()
            .map(|&slot| text.files[slot as usize].chunks[0]);
        let best_chunk = best_chunk.fold(1e-6, f32::max);
        let mut rows: Vec<[f32; N_SIGNALS]> = slots
            .iter()
            .map(|&slot| {
                let entry = self.entry(slot);
                let kind = self.kind(slot);
                let file = text.files.get(slot as usize).copied().unwrap_or_default();
                let mut row = [0.0; N_SIGNALS];
                let mut set = |signal: Signal, value: f32| row[signal as usize] = value;
                set(Signal::Words, words.relative(slot));
                set(Signal::Chunks, chunks.relative(slot));
                set(Signal::BestChunk, file.chunks[0] / best_chunk);
                set(Signal::Coverage, file.coverage);
                set(Signal::Density, file.file / text.weight.max(1e-6));
                set(Signal::Path, paths.relative(slot));
                set(Signal::Symbols, symbols.relative(slot));
                set(Signal::Defines, defines.get(slot));
                set(Signal::NamesFile, names_file.get(slot));
                set(Signal::Neighbours, neighbours.relative(slot));
                set(Signal::Messages, messages.relative(slot));
                set(Signal::Together, together.relative(slot));
                set(Signal::Recent, recent.relative(slot));
                set(Signal::LongTerm, long_term.relative(slot));
                set(Signal::Rank, rank.relative(slot));
                set(Signal::Meaning, meaning.relative(slot));
                let cosine = meaning.scores.get(slot);
                let margin = if cosine > 0.0 { cosine - median } else { 0.0 };
                set(Signal::MeaningMargin, margin);
                set(Signal::Fused, lexical.relative(slot));
                set(Signal::FusedAll, everything.relative(slot));
                set(Signal::IsTest, f32::from(u8::from(kind.is_test)));
                set(Signal::AsksTest, f32::from(u8::from(asks_test)));
                set(
                    Signal::IsCode,
                    f32::from(u8::from(entry.language.is_code())),
                );
                set(Signal::LanguageShare, shares[entry.language as usize]);
                set(Signal::LinesLog, (1.0 + entry.n_lines as f32).ln());
                set(
                    Signal::DefinitionsLog,
                    (1.0 + entry.n_definitions as f32).ln(),
                );
                set(Signal::Depth, f32::from(kind.depth));
                set(Signal::TermsLog, (1.0 + n_terms as f32).ln());
                let folder = best_in_folder.get(entry.path.parent()).copied();
                set(Signal::SiblingHit, folder.unwrap_or(0.0));
                row
            })
            .collect();
        let places = [
            (Signal::WordsPlace, &words),
            (Signal::ChunksPlace, &chunks),
            (Signal::PathPlace, &paths),
            (Signal::SymbolsPlace, &symbols),
            (Signal::NeighboursPlace, &neighbours),
            (Signal::MessagesPlace, &messages),
            (Signal::TogetherPlace, &together),
            (Signal::RecentPlace, recent),
            (Signal::LongTermPlace, long_term),
            (Signal::RankPlace, &rank),
            (Signal::MeaningPlace, &meaning),
            (Signal::FusedPlace, &lexical),
        ];
        for (signal, column) in places {
            let row_of = |slot| slots.binary_search(&slot).ok();
            column.write_places(row_of, signal as usize, &mut rows);
        }
        text.chunks.extend(near);
        Signals {
            slots,
            rows,
            chunks: text.chunks,
        }
    }

    /// Scores words in the base and in what is newer, except in the file `but`.
    pub(crate) fn text_scores(&self, terms: &[QueryTerm], but: Option<Slot>) -> TextScores {
        let scored = self.base.text.score(terms, &self.overlay.hidden, N_CHUNKS);
        let mut scores = scored.unwrap_or_else(|error| {
            tracing::warn!(%error, "the text index cannot be read");
            TextScores::default()
        });
        let n_slots = self.n_slots().max(scores.files.len());
        scores.files.resize(n_slots, FileScore::default());
        for (&slot, twins) in &self.base.twins {
            let score = scores.files[slot as usize];
            if score.file > 0.0 {
                for &twin in twins {
                    scores.set(twin, score);
                }
            }
        }
        for &slot in &self.overlay.masked {
            scores.remove(slot);
        }
        for hit in &mut scores.chunks {
            hit.slot = self.overlay.stand_in(hit.slot);
        }
        for (&slot, file) in &self.overlay.files {
            if Some(slot) == but {
                continue;
            }
            if let Some((score, chunks)) = self.base.text.score_parsed(file.bags(), terms) {
                scores.set(slot, score);
                let chunks = chunks
                    .into_iter()
                    .enumerate()
                    .filter(|&(_, score)| score > 0.0);
                let hit = |(at, score)| ChunkScore {
                    slot,
                    chunk: at as u32,
                    score,
                };
                scores.chunks.extend(chunks.map(hit));
            }
        }
        scores.chunks.sort_by(|a, b| b.score.total_cmp(&a.score));
        scores.chunks.truncate(N_CHUNKS);
        scores
    }

    pub(crate) fn path_scores(&self, terms: &[QueryTerm]) -> Scores {
        let mut scores = Scores::new(self.n_slots());
        for term in terms {
            self.base.paths.matches(&term.text, |slot, score| {
                if !self.overlay.gone.contains(&slot) {
                    scores.add(slot, term.weight * score);
                }
            });
            for (path, &slot) in &self.overlay.added {
                let idf = idf(self.n_slots() as f32, 1.0);
                scores.add(slot, term.weight * weight_in(path, &term.text) * idf);
            }
        }
        scores
    }

    /// Returns the files that define a name written in the question as code would write it, and
    /// those whose own name stands in it.
    fn pointed_at(&self, query: &Query<'_>) -> (Scores, Scores) {
        let n_slots = self.n_slots();
        let (mut defines, mut names) = (Scores::new(n_slots), Scores::new(n_slots));
        let asked = &query.text[..query.text.floor_char_boundary(MAX_QUERY)];
        let mut look = |word: &str, is_mentioned: bool| {
            let says_much = NameStyle::of(word) == NameStyle::Descriptive
                || word.starts_with(|c: char| c.is_ascii_uppercase()) && word.len() >= 4
                || word.contains('_') && word.len() >= 4;
            if is_mentioned || says_much {
                let definers =
                    self.definers(name_hash(word.as_bytes()), 2 * crate::graph::MAX_DEFINERS);
                let share = 1.0 / (definers.len() as f32).max(1.0).sqrt();
                for slot in definers {
                    defines.add(slot, share);
                }
            }
        };
        analyse::words(asked, |_, word| look(word, false));
        for name in query.mentioned {
            analyse::words(name, |_, word| look(word, true));
            if let Some(slot) = self.slot(&RepoPath::from(name.as_str())) {
                names.raise(slot, 1.0);
            }
        }
        for part in asked.split(|c: char| c.is_whitespace() || "`'\"(),:;<>".contains(c)) {
            let part = part.trim_start_matches("./").trim_end_matches('.');
            if (part.contains('.') || part.contains('/'))
                && let Some(slot) = self.slot(&RepoPath::from(part))
            {
                names.raise(slot, 1.0);
            }
        }
        (defines, names)
    }

    fn message_scores(&self, terms: &[QueryTerm]) -> (Scores, Scores) {
        let n_slots = self.n_slots();
        let (mut neighbours, mut messages) = (Scores::new(n_slots), Scores::new(n_slots));
        self.history.score(terms, |file, score| {
            if let Some(slot) = self.past_slot(file) {
                neighbours.add(slot, score.neighbours);
                messages.add(slot, score.messages);
            }
        });
        (neighbours, messages)
    }

    /// Returns what changed recently, and what changes often: the same for every question.
    fn recency(&self) -> (Column, Column) {
        let n_slots = self.n_slots();
        let (mut recent, mut long_term) = (Scores::new(n_slots), Scores::new(n_slots));
        for file in 0..self.history.n_files() {
            if let Some(slot) = self.past_slot(file) {
                let (fast, slow) = self.history.recency(file);
                recent.add(slot, fast);
                long_term.add(slot, slow);
            }
        }
        (Column::new(recent), Column::new(long_term))
    }

    pub(crate) fn together(&self, seeds: &[(Slot, f32)]) -> Scores {
        let seeds: Vec<(u32, f32)> = seeds
            .iter()
            .filter_map(|&(slot, weight)| {
                Some((self.history.file(&self.entry(slot).path)?, weight))
            })
            .collect();
        let mut scores = Scores::new(self.n_slots());
        for (file, score) in self.history.together(&seeds) {
            if let Some(slot) = self.past_slot(file) {
                scores.add(slot, score);
            }
        }
        scores
    }

    /// Returns the cosine of each near file's best chunk, and those chunks with the score of a
    /// weak match in words, so that they show where a file was found by meaning alone.
    fn meaning(&self, query: &Query<'_>) -> (Scores, Vec<ChunkScore>) {
        let embedded;
        let (vectors, vector) = match (query.vector, self.base.outside()) {
            (Some(vector), Some(outside)) => (outside, vector),
            (Some(_), None) | (None, _) => {
                embedded = embed::question(&analyse::prose_terms(query.text));
                (&self.base.vectors, &embedded[..])
            }
        };
        let mut scores = Scores::new(self.n_slots());
        let mut chunks = Vec::new();
        for near in vectors.nearest(vector, &self.overlay.hidden, N_NEAR_CHUNKS) {
            if near.cosine > 0.0 {
                let slot = self.overlay.stand_in(near.slot);
                scores.raise(slot, near.cosine);
                let score = 1e-3 * near.cosine;
                chunks.push(ChunkScore {
                    slot,
                    chunk: near.chunk,
                    score,
                });
            }
        }
        (scores, chunks)
    }

    fn best_in_folder(&self, lexical: &Column) -> FxHashMap<&str, f32> {
        let mut best: FxHashMap<&str, f32> = FxHashMap::default();
        for &slot in lexical.order.iter().take(50) {
            let folder = best.entry(self.entry(slot).path.parent()).or_default();
            *folder = folder.max(lexical.relative(slot));
        }
        best
    }

    /// Returns how much of the workspace's code each language is, by files, after square root.
    fn language_shares(&self) -> [f32; Language::ALL.len()] {
        self.base.language_shares
    }
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn asks_about_tests(text: &str) -> bool {
    let mut asks = false;
    analyse::words(text, |_, word| {
        asks |= matches!(
            word.to_ascii_lowercase().as_str(),
            "test"
                | "tests"
                | "testing"
                | "unittest"
                | "pytest"
                | "spec"
                | "specs"
                | "fixture"
                | "flaky"
        );
    });
    asks
}
