//! Paths in prose: the line above an edit that names its file.

/// How many lines above an edit are looked at; fences and blank lines among them do not count.
const FENCES_BETWEEN: usize = 3;

/// Returns the path that the lines above an edit name, the nearest last.
///
/// Only the nearest line that is no fence is looked at, and past a blank line only one that is
/// nothing but a path.
pub(super) fn path_above(above: &[&str]) -> Option<String> {
    let (mut fences, mut blanks) = (0, 0);
    for line in above.iter().rev() {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            blanks += 1;
            if blanks > 1 {
                return None;
            }
        } else if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fences += 1;
            if fences > FENCES_BETWEEN {
                return None;
            }
        } else {
            return path_line(line).or_else(|| if blanks == 0 { quoted_path(line) } else { None });
        }
    }
    None
}

/// Reads a line that is nothing but a path, however decorated: `### src/a.rs`, `**a.py**:`,
/// `` File: `a b.txt` ``.
pub(super) fn path_line(line: &str) -> Option<String> {
    let mut text = line.trim().trim_start_matches(['#', '>']).trim();
    for word in [
        "File name:",
        "Filename:",
        "File:",
        "Path:",
        "file:",
        "path:",
    ] {
        if let Some(rest) = text.strip_prefix(word) {
            text = rest.trim();
        }
    }
    let list_item = text
        .split_once(". ")
        .filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()));
    text = list_item.map_or(text, |(_, rest)| rest);
    text = text.strip_suffix(':').unwrap_or(text);
    for mark in ["**", "__", "`", "\"", "'", "*"] {
        if let Some(inner) = text.strip_prefix(mark).and_then(|t| t.strip_suffix(mark)) {
            text = inner.strip_suffix(':').unwrap_or(inner).trim();
        }
    }
    text = text.strip_suffix(':').unwrap_or(text);
    is_path(text).then(|| text.to_owned())
}

/// Reads the one path in backticks that a sentence has.
fn quoted_path(line: &str) -> Option<String> {
    let mut spans = line
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|s| is_path(s) && has_shape_of_path(s));
    let only = spans.next()?;
    spans.next().is_none().then(|| only.to_owned())
}

/// Whether text can be a path at all: one word, or several that end like a file name.
pub(super) fn is_path(text: &str) -> bool {
    let is_plain = !text.is_empty()
        && text.len() <= 4096
        && !text.contains("://")
        && !text.contains([
            '<', '>', '|', '?', '*', '"', '`', '(', ')', '{', '}', ';', ',',
        ])
        && !text.ends_with(['.', '!', ':']);
    let n_words = text.split_whitespace().count();
    is_plain && (n_words == 1 || (n_words <= 8 && has_shape_of_path(text)))
}

/// Whether text has a directory or an extension, as a file's name in prose would.
pub(super) fn has_shape_of_path(text: &str) -> bool {
    let name = text.rsplit(['/', '\\']).next().unwrap_or(text);
    let has_extension = name.rsplit_once('.').is_some_and(|(_, ext)| {
        (1..=12).contains(&ext.len())
            && ext.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && ext.bytes().any(|b| b.is_ascii_alphabetic())
    });
    has_extension || (text.contains(['/', '\\']) && !text.contains(' '))
}
