//! Which learnt files are most like the one that is written.
//!
//! Files that share rare names do similar things: their lines are believed more. A name counts by
//! how few places it has, and once a file.

use rustc_hash::FxHashMap;

use super::open_text::OpenText;
use super::segment::{Segment, Span, contains};
use super::vocabulary::{Class, Vocabulary, Word};

/// Files that count as near.
const MOST_FILES: usize = 6;

/// Places a name may have to tell anything.
const MOST_PLACES: usize = 40;

/// Rarest names that are looked up.
const MOST_NAMES: usize = 100;

/// Returns, for each segment, the files most like `text`, in order of place.
pub(crate) fn near_files(
    text: &OpenText,
    segments: &[(&Segment, &[Span])],
    vocabulary: &Vocabulary,
) -> Vec<Vec<Span>> {
    let mut names: Vec<(usize, Word)> = Vec::new();
    for (word, _) in text.all_uses() {
        if word.is_scratch() || vocabulary.class(word) != Class::Name {
            continue;
        }
        let n_places = segments
            .iter()
            .map(|(segment, _)| segment.uses(word) as usize)
            .sum();
        if (1..=MOST_PLACES).contains(&n_places) {
            names.push((n_places, word));
        }
    }
    names.sort_unstable();
    names.truncate(MOST_NAMES);
    let mut scores: FxHashMap<(usize, usize), f32> = FxHashMap::default();
    for (n_places, word) in names {
        for (at, (segment, hidden)) in segments.iter().enumerate() {
            let mut files: Vec<usize> = Vec::new();
            for place in segment.literal.places(segment.literal.after(word)) {
                if !contains(hidden, *place - 1) {
                    files.push(segment.file_at(*place - 1));
                }
            }
            files.sort_unstable();
            files.dedup();
            for file in files {
                *scores.entry((at, file)).or_default() += 1.0 / (n_places as f32).sqrt();
            }
        }
    }
    let mut ranked: Vec<((usize, usize), f32)> = scores.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut near = vec![Vec::new(); segments.len()];
    for ((segment, file), _) in ranked.into_iter().take(MOST_FILES) {
        near[segment].push(segments[segment].0.span(file));
    }
    near.iter_mut().for_each(|spans| spans.sort_unstable());
    near
}
