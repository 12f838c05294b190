//! The answer of search, where no model is configured: the best places of the repository for a
//! question, why, and how they begin. It says of itself what it is.

use std::fmt::Write as _;

use super::cite::place;
use super::grounding::{Grounding, reason};
use crate::store::events::Place;

/// Places listed.
const PLACES: usize = 8;
/// Places that are quoted, and lines of each.
const QUOTED: usize = 3;
const LINES: usize = 12;

/// What search answers, and the places it names.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) places: Vec<Place>,
}

/// Writes the answer.
pub(super) fn answer(grounding: &Grounding, is_indexed: bool, root: &std::path::Path) -> Found {
    let mut text = String::from(
        "*This is the result of a search, not a model's answer: no model is configured for chat.*\n\n",
    );
    let mut places = Vec::new();
    if grounding.found.is_empty() {
        let why = match (is_indexed, still_indexing(grounding)) {
            (true, Some(why)) => why,
            (true, None) => "Nothing in this repository is about the question.".to_owned(),
            (false, _) => {
                "The repository is not indexed (`index.enabled`), so there is nothing to search in."
                    .to_owned()
            }
        };
        text.push_str(&why);
        text.push('\n');
    } else {
        text.push_str("The places that fit the question best:\n\n");
    }
    for (nth, found) in grounding.found.iter().take(PLACES).enumerate() {
        let path = found.hit.path.as_str();
        let best = found.hit.chunks.first();
        let lines = best.map(|chunk| {
            (
                chunk.first_line + 1,
                chunk.end_line.max(chunk.first_line + 1),
            )
        });
        let place = place(root, path, lines);
        let at = lines.map_or_else(String::new, |(first, _)| format!(":{first}"));
        let symbol = best.and_then(|chunk| chunk.symbol.as_deref());
        let symbol = symbol.map_or_else(String::new, |symbol| format!(" `{}`", plain(symbol)));
        let _ = writeln!(
            text,
            "{}. [{}{at}]({}){symbol} ({})",
            nth + 1,
            plain(path),
            place.uri,
            reason(found)
        );
        places.push(place);
    }
    let quoted = grounding.pieces.iter().filter(|piece| {
        let is_found =
            |place: &Place| Some(&place.path) == piece.shown.place.as_ref().map(|p| &p.path);
        places.iter().any(is_found)
    });
    for piece in quoted.take(QUOTED) {
        let first = piece
            .shown
            .place
            .as_ref()
            .and_then(|place| place.first_line);
        let at = first.map_or_else(String::new, |line| format!(":{line}"));
        let lines: Vec<&str> = piece.text.lines().take(LINES).collect();
        let fence = fence_for(&lines);
        let _ = write!(
            text,
            "\n`{}{at}`\n{fence}\n{}\n{fence}\n",
            plain(&piece.shown.title),
            lines.join("\n")
        );
    }
    text.push_str("\nSet `models.chat` to have questions answered by a model.\n");
    Found { text, places }
}

/// Says that more may be found soon, where that is so.
pub(super) fn still_indexing(grounding: &Grounding) -> Option<String> {
    let how_far = match grounding.indexing? {
        (_, 0) => String::new(),
        (n_indexed, n_files) => format!(" ({n_indexed} of {n_files} files)"),
    };
    let still = "The repository is still being indexed";
    Some(format!("{still}{how_far}; ask again in a moment."))
}

/// A name of the repository as it can stand in Markdown and in a terminal.
fn plain(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_control() || "`[]".contains(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A fence that no line of the text ends.
fn fence_for(lines: &[&str]) -> String {
    let longest = lines
        .iter()
        .map(|line| line.trim_start().bytes().take_while(|&b| b == b'`').count())
        .max();
    "`".repeat(longest.unwrap_or_default().max(2) + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_not_indexed_yet_is_not_said_to_be_absent() {
        let said = |indexing| {
            let mut grounding = Grounding::default();
            grounding.indexing = indexing;
            answer(&grounding, true, Path::new("/")).text
        };
        let absent = "Nothing in this repository is about the question.";
        assert!(said(None).contains(absent));
        for (how_far, told) in [
            ((0, 0), "is still being indexed; ask again"),
            ((3, 70), "is still being indexed (3 of 70 files); ask again"),
        ] {
            let said = said(Some(how_far));
            assert!(said.contains(told) && !said.contains(absent), "{said}");
        }
    }
}
