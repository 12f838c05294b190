//! One text in two spellings: as the disk has it, and as an editor that has it open.
//!
//! An editor knows no byte-order mark, no encoding but its own, and often one line end alone. What
//! was made of one of the two is carried over to the other line by line, never byte by byte.
//! Not here: how a single file is read and written (`text`).

use super::merge::diff;
use super::text::{Breaks, Encoding, Eol, Inexpressible, LineEnd, NewLine, Splice, Text};

/// Spells a text as `now` is spelled: lines that both have are taken from there, the others are
/// written in its encoding and with its usual line end. What is no text, or empty, is returned as
/// it is.
///
/// # Errors
/// [`Inexpressible`] when the encoding of `now` lacks a character.
pub(super) fn like(now: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Inexpressible> {
    match (decode(now), decode(bytes)) {
        (Some(now), Some(text)) if !now.bytes().is_empty() => text_like(&now, &text),
        _ => Ok(bytes.to_vec()),
    }
}

pub(super) fn text_like(now: &Text, text: &Text) -> Result<Vec<u8>, Inexpressible> {
    let n_lines = text.n_lines();
    let splices: Vec<Splice> = diff(&lines_of(now), &lines_of(text))
        .into_iter()
        .map(|change| Splice {
            lines: change.before,
            new: change
                .after
                .map(|idx| NewLine {
                    text: text.line(idx).to_owned(),
                    end: match idx + 1 == n_lines && !text.is_ended() {
                        true => LineEnd::Open,
                        false => LineEnd::Ended,
                    },
                })
                .collect(),
        })
        .collect();
    let (bytes, _) = now.apply(&splices)?;
    // Bytes of an encoding may read as those of another one.
    let is_read_back = decode(&bytes).is_some_and(|read| read.content() == text.content());
    match is_read_back {
        true => Ok(bytes),
        false => Err(Inexpressible(shown(text))),
    }
}

/// Whether two texts are spelled in the same way, as far as they show it.
pub(super) fn is_same(a: &Text, b: &Text) -> bool {
    let has_one_encoding = match (a.encoding(), b.encoding()) {
        (Encoding::Legacy { .. }, Encoding::Legacy { .. }) => true,
        (a, b) => a == b,
    };
    has_one_encoding && have_one_end(a, b)
}

/// As [`is_same`] for two versions of one file: where one of them is ASCII it shows no encoding.
pub(super) fn may_be_same(a: &Text, b: &Text) -> bool {
    let is_plain =
        |t: &Text| t.encoding() == Encoding::Utf8 { bom: false } && t.content().is_ascii();
    let shows_nothing = |a: &Text, b: &Text| {
        is_plain(a)
            && matches!(
                b.encoding(),
                Encoding::Utf8 { bom: false } | Encoding::Legacy { .. }
            )
    };
    is_same(a, b) || (shows_nothing(a, b) || shows_nothing(b, a)) && have_one_end(a, b)
}

/// Whether two texts have the same kinds of line ends, or one of them has none.
fn have_one_end(a: &Text, b: &Text) -> bool {
    let (a, b) = (a.eols(), b.eols());
    let has_none = |eols: &[bool; 3]| eols.iter().all(|has| !has);
    a == b || has_none(&a) || has_none(&b)
}

pub(super) fn decode(bytes: &[u8]) -> Option<Text> {
    Text::decode(bytes.to_vec(), Breaks::Lf).ok()
}

/// Lines as they read, with `\n` where they are ended.
fn lines_of(text: &Text) -> Vec<&[u8]> {
    let lines = text.content().split_inclusive(Eol::Lf.as_str());
    lines.map(str::as_bytes).collect()
}

/// The first line that is not ASCII.
fn shown(text: &Text) -> String {
    let line = text.lines().find(|line| !line.is_ascii());
    line.unwrap_or_default().chars().take(80).collect()
}
