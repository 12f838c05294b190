//! The part of the tour about the index: the files that a question is about, and the map.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use indexer::{MapQuery, Query, Reader, RepoPath, Tokens};

use super::places::Place;
use super::{faint, ms};
use crate::cli::index::settled;
use crate::cli::style::{self, paint};
use crate::shown::{count, printable};

/// Files shown of an answer.
const FILES: usize = 3;
const MAP_BUDGET: Tokens = Tokens(160);

/// Asks, in plain words, for something that the folder defines, and shows a small map of it.
pub(super) fn show(out: &mut impl Write, root: &Path, places: &[Place]) -> anyhow::Result<()> {
    let index = settled(root)?;
    let reader = index.reader();
    if let Some((words, definers)) = question(&reader, places) {
        let query = Query {
            limit: FILES,
            ..Query::new(&words)
        };
        let asked = Instant::now();
        let hits = reader.search(&query);
        let note = format!(
            "{}, {}",
            ms(asked.elapsed()),
            count(reader.n_files(), "file")
        );
        writeln!(out, "  search {words:?} {}", faint(note))?;
        for hit in &hits {
            let mark = match definers.contains(&hit.path) {
                true => paint(style::GOOD, "✓"),
                false => paint(style::WARN, "·"),
            };
            let best = hit.chunks.first();
            let symbol = best.and_then(|chunk| chunk.symbol.as_deref());
            let line = best.map_or(1, |chunk| chunk.first_line + 1);
            let place = printable(&format!("{}:{line}", hit.path));
            let symbol = printable(symbol.unwrap_or_default());
            writeln!(out, "  {mark} {place} {}", faint(symbol))?;
        }
        writeln!(out)?;
    }
    let asked = Instant::now();
    let map = reader.map(&MapQuery {
        budget: MAP_BUDGET,
        focus: &[],
        mentioned: "",
    });
    let note = format!(
        "{}, {} tokens of what the folder uses most",
        ms(asked.elapsed()),
        map.tokens.0
    );
    writeln!(out, "  map {}", faint(note))?;
    for line in map.text.lines() {
        writeln!(out, "    {}", printable(line))?;
    }
    writeln!(out)?;
    Ok(())
}

/// Returns the name of most words among the lines shown that few files define, as words, and these
/// files.
fn question(reader: &Reader, places: &[Place]) -> Option<(String, Vec<RepoPath>)> {
    let mut names: Vec<(String, &str)> = places
        .iter()
        .flat_map(|place| [place.before.as_str(), place.rest.as_str()])
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .map(|name| (in_words(name), name))
        .collect();
    names.sort_by_key(|(words, _)| std::cmp::Reverse(words.split(' ').count()));
    names.into_iter().find_map(|(words, name)| {
        let definitions = reader.definitions_of(name).into_iter();
        let files: Vec<RepoPath> = definitions.map(|(path, _, _)| path).collect();
        (1..=2).contains(&files.len()).then_some((words, files))
    })
}

/// Returns `waitForAnswer`, `wait_for_answer` and `WAIT_FOR_ANSWER` as `wait for answer`.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    let mut was_lowercase = false;
    for c in name.chars() {
        if c == '_' || c.is_uppercase() && was_lowercase {
            words.push(' ');
        }
        if c != '_' {
            words.extend(c.to_lowercase());
        }
        was_lowercase = c.is_lowercase();
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn names_are_told_in_words() {
        for name in ["waitForAnswer", "wait_for_answer", "WAIT_FOR_ANSWER"] {
            assert_eq!(in_words(name), "wait for answer");
        }
    }
}
