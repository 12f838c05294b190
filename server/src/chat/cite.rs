//! The places of the repository that an answer names, found in its text.
//!
//! Holds: a place is a file that is there; what is no file of the folder is left alone. Work is
//! bounded by [`CANDIDATES`].

use std::path::Path;

use url::Url;

use crate::edit::path::RepoPath;
use crate::store::events::Place;

/// Most places of one answer.
const PLACES: usize = 32;
/// Words of an answer that are looked up on the disk, at most.
const CANDIDATES: usize = 400;

/// Returns the files that `answer` names, with their lines where it says them, each once.
pub(super) fn places(answer: &str, root: &Path) -> Vec<Place> {
    let is_outside = |c: char| c.is_whitespace() || "`'\"()[]{}<>|*,;".contains(c);
    let words = answer.split(is_outside);
    let named = words.filter_map(|word| {
        let word = word.trim_end_matches(['.', ':', '!', '?']);
        let (path, lines) = with_lines(word);
        let is_path = path.contains('/') || path.contains('.');
        (is_path && path.len() > 2).then_some((path, lines))
    });
    let mut places: Vec<Place> = Vec::new();
    for (path, lines) in named.take(CANDIDATES) {
        let Ok(path) = RepoPath::parse(path.trim_start_matches("./")) else {
            continue;
        };
        let file = path.under(root);
        if !file.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        let place = place(root, path.as_str(), lines);
        if !places.contains(&place) {
            places.push(place);
        }
        if places.len() == PLACES {
            break;
        }
    }
    places
}

/// Makes the place of lines `first..=last`, from 1, of a file below `root`.
pub(super) fn place(root: &Path, path: &str, lines: Option<(u32, u32)>) -> Place {
    let uri = Url::from_file_path(root.join(path)).map(String::from);
    let at = lines.map_or_else(String::new, |(first, _)| format!("#L{first}"));
    Place {
        path: path.to_owned(),
        first_line: lines.map(|(first, _)| first),
        last_line: lines.map(|(_, last)| last),
        uri: uri.unwrap_or_default() + &at,
    }
}

/// Splits `path:12`, `path:12-20`, `path:12:5`, `path#L12` and `path#L12-L20`.
fn with_lines(word: &str) -> (&str, Option<(u32, u32)>) {
    let number = |text: &str| -> Option<(u32, usize)> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = text[..digits].parse().ok().filter(|&n| n > 0)?;
        Some((number, digits))
    };
    for separator in ["#L", ":"] {
        let Some((path, rest)) = word.split_once(separator) else {
            continue;
        };
        let Some((first, digits)) = number(rest) else {
            continue;
        };
        let after = rest[digits..].trim_start_matches(['-', '–', 'L']);
        let is_range = rest[digits..].starts_with(['-', '–']);
        let last = number(after)
            .filter(|_| is_range)
            .map_or(first, |(last, _)| last.max(first));
        return (path, Some((first, last)));
    }
    (word, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_there_are_found_however_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("src")).unwrap();
        std::fs::write(root.join("src/lib.rs"), "x").unwrap();
        std::fs::write(root.join("a b.rs"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/hosts", root.join("hosts.txt")).unwrap();
        let cases = [
            ("see `src/lib.rs:12`.", "src/lib.rs 12-12"),
            ("[here](src/lib.rs#L3-L9), yes", "src/lib.rs 3-9"),
            ("./src/lib.rs:4-2!", "src/lib.rs 4-4"),
            ("src/lib.rs:7:3: error", "src/lib.rs 7-7"),
            ("**src/lib.rs**", "src/lib.rs"),
            ("src/lib.rs:0", ""),
            ("src/gone.rs:1 ../src/lib.rs /etc/hosts:1 hosts.txt src", ""),
            ("e.g. a version 1.2.3 of std::fs", ""),
        ];
        for (answer, expected) in cases {
            let found = places(answer, root);
            let shown: Vec<String> = found
                .iter()
                .map(|place| match (place.first_line, place.last_line) {
                    (Some(first), Some(last)) => format!("{} {first}-{last}", place.path),
                    _ => place.path.clone(),
                })
                .collect();
            assert_eq!(shown.join(", "), expected, "{answer}");
        }
        let twice = places("src/lib.rs:1 src/lib.rs:1 src/lib.rs:2", root);
        assert_eq!(twice.len(), 2);
        assert!(twice[0].uri.starts_with("file:///") && twice[0].uri.ends_with("/src/lib.rs#L1"));
    }
}
