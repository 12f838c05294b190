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
        let why = match is_indexed {
            true => "Nothing in this repository is about the question.",
            false => {
                "The repository is not indexed (`index.enabled`), so there is nothing to search in."
            }
        };
        text.push_str(why);
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
