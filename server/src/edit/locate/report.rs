//! Refusals that help to repair: what was looked for, what is there instead, what is in doubt.

use super::{MAX_AMBIGUOUS, Place};
use crate::edit::parse::Block;
use crate::edit::text::Text;
use crate::edit::{Kind, Refusal};

/// Lines quoted at most, and characters of each.
const QUOTED_LINES: usize = 4;
const QUOTED_CHARS: usize = 120;
/// Places listed at most.
const LISTED_PLACES: usize = 8;

/// Says that a block is not in the file, and where it almost is.
///
/// The nearest place is the window that has most of the block's lines, but for blanks around them.
/// It is for reading only: nothing is done with it.
pub fn no_match(text: &Text, block: &Block) -> Refusal {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    let mut message = format!("the text to change is not in the file: {}", quote(&old));
    if let Some((start, n_same)) = nearest(text, &old) {
        let differing = (0..old.len())
            .find(|&i| start + i >= text.n_lines() || text.line(start + i) != old[i])
            .unwrap_or_default();
        message.push_str(&format!(
            "; the nearest place is line {} ({n_same} of {} lines agree)",
            start + 1,
            old.len()
        ));
        match start + differing {
            line_idx if line_idx < text.n_lines() => message.push_str(&format!(
                ", where line {} is {} and not {}",
                line_idx + 1,
                quote(&[text.line(line_idx)]),
                quote(&[old[differing]]),
            )),
            _ => message.push_str(", where the file ends too early"),
        }
    }
    Refusal::new(Kind::NoMatch, message)
}

/// Says that a block is in the file more than once.
pub fn ambiguous(places: &[Place]) -> Refusal {
    let lines: Vec<usize> = places.iter().map(|p| p.start() + 1).collect();
    ambiguous_lines(&lines)
}

/// As [`ambiguous`], for lines from one.
pub fn ambiguous_lines(lines: &[usize]) -> Refusal {
    let listed: Vec<String> = lines
        .iter()
        .take(LISTED_PLACES)
        .map(usize::to_string)
        .collect();
    let more = if lines.len() > LISTED_PLACES {
        ", …"
    } else {
        ""
    };
    // Nobody looked for more.
    let at_least = match lines.len() < MAX_AMBIGUOUS {
        true => "",
        false => "at least ",
    };
    Refusal::new(
        Kind::AmbiguousMatch,
        format!(
            "the text to change is in the file {at_least}{} times (lines {}{more}); add lines around it that tell them apart",
            lines.len(),
            listed.join(", "),
        ),
    )
}

/// Says that a file repeats its lines so often that a search for a block came to no end.
pub(super) fn too_repetitive() -> Refusal {
    Refusal::new(
        Kind::AmbiguousMatch,
        "the file repeats the lines to change too often to tell where they are meant; add lines around them that are there once",
    )
}

fn nearest(text: &Text, old: &[&str]) -> Option<(usize, usize)> {
    let n_lines = text.n_lines();
    let wanted: Vec<&str> = old.iter().map(|l| l.trim()).collect();
    // A vote of each line for the start it would give the block.
    let mut votes: Vec<u32> = vec![0; n_lines];
    let mut positions: rustc_hash::FxHashMap<&str, Vec<usize>> = rustc_hash::FxHashMap::default();
    for (i, line) in wanted
        .iter()
        .enumerate()
        .filter(|(_, l)| !l.is_empty())
        .take(200)
    {
        positions.entry(line).or_default().push(i);
    }
    for (line_idx, line) in text.lines().enumerate() {
        for offset in positions.get(line.trim()).into_iter().flatten() {
            if let Some(start) = line_idx.checked_sub(*offset) {
                votes[start] += 1;
            }
        }
    }
    let (start, most) = votes
        .iter()
        .enumerate()
        .max_by_key(|(i, v)| (**v, usize::MAX - i))?;
    (*most > 0).then_some((start, *most as usize))
}

fn quote(lines: &[&str]) -> String {
    let shown: Vec<String> = lines
        .iter()
        .take(QUOTED_LINES)
        .map(|line| match line.char_indices().nth(QUOTED_CHARS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => (*line).to_owned(),
        })
        .collect();
    let more = if lines.len() > QUOTED_LINES {
        "\n…"
    } else {
        ""
    };
    format!("{:?}", format!("{}{more}", shown.join("\n")))
}
