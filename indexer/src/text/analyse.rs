//! Turns source text and questions into the terms that are indexed.
//!
//! An identifier gives its parts (camelCase, snake_case, letters against digits), each lower-case
//! and lightly stemmed, and, when it has several, itself with the separators removed, so that
//! `parse_request`, `parseRequest` and "parse request" meet. Keywords of the language, one-letter
//! parts, long numbers and words above [`MAX_WORD`] bytes (hashes, base64) give nothing.
//! Not here: weights and scores (`text::score`).

use rustc_hash::FxHashSet;

/// Longer words are data, not language.
const MAX_WORD: usize = 64;

/// Terms in normal form, separated by single spaces: what is handed to the text index.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) text: String,
    pub(crate) len: u32,
}

impl Terms {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split_ascii_whitespace()
    }

    fn push(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        if self.text.len() > start {
            self.text.push(' ');
            self.len += 1;
        }
    }

    /// Adds the terms of one word.
    pub(crate) fn add_word(&mut self, word: &str) {
        if word.len() > MAX_WORD {
            return;
        }
        if !word.is_ascii() {
            self.add_unicode_word(word);
            return;
        }
        let bytes = word.as_bytes();
        if bytes[0].is_ascii_digit() {
            if bytes.len() <= 5 {
                self.push(|text| text.extend(bytes.iter().map(|b| b.to_ascii_lowercase() as char)));
            }
            return;
        }
        let mut n_parts = 0;
        let mut start = 0;
        while let Some((from, to)) = next_part(bytes, start) {
            start = to;
            n_parts += 1;
            if to - from > 1 {
                self.push(|text| {
                    let at = text.len();
                    text.extend(
                        bytes[from..to]
                            .iter()
                            .map(|b| b.to_ascii_lowercase() as char),
                    );
                    let stemmed = stem(&text.as_bytes()[at..]);
                    text.truncate(at + stemmed);
                });
            }
        }
        if n_parts > 1 {
            self.push(|text| {
                let letters = bytes.iter().filter(|b| b.is_ascii_alphanumeric());
                text.extend(letters.map(|b| b.to_ascii_lowercase() as char));
            });
        }
    }

    /// Scripts without spaces between words (from kana upwards) give their characters.
    fn add_unicode_word(&mut self, word: &str) {
        if word.chars().any(|c| c >= '\u{3040}') {
            for c in word.chars().filter(|c| !c.is_ascii_punctuation()) {
                self.push(|text| text.extend(c.to_lowercase()));
            }
        } else {
            self.push(|text| text.push_str(&word.to_lowercase()));
        }
    }
}

/// Calls `visit` with every word of `text` and its byte offset, in order.
///
/// A word is a run of letters, digits, `_`, `$` and anything beyond ASCII that is alphanumeric.
pub(crate) fn words<'t>(text: &'t str, mut visit: impl FnMut(usize, &'t str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() {
            let byte = bytes[at];
            if byte.is_ascii() {
                if !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$') {
                    break;
                }
                at += 1;
            } else {
                let Some(c) = text[at..].chars().next() else {
                    break;
                };
                if !c.is_alphanumeric() {
                    break;
                }
                at += c.len_utf8();
            }
        }
        if at > start {
            visit(start, &text[start..at]);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// Returns the terms of a question or a commit message, in order, English stop words left out.
pub(crate) fn prose_terms(text: &str) -> Terms {
    let mut terms = Terms::default();
    words(text, |_, word| {
        if !is_stop_word(word) {
            terms.add_word(word);
        }
    });
    terms
}

/// Returns the next part of an identifier at or after `start`: its first byte and its end.
fn next_part(word: &[u8], start: usize) -> Option<(usize, usize)> {
    let from = start + word[start..].iter().position(u8::is_ascii_alphanumeric)?;
    let mut to = from + 1;
    while to < word.len() && word[to].is_ascii_alphanumeric() {
        let (before, here) = (word[to - 1], word[to]);
        let next_is_lower = word.get(to + 1).is_some_and(u8::is_ascii_lowercase);
        let boundary = (before.is_ascii_digit() != here.is_ascii_digit())
            || (here.is_ascii_uppercase() && (before.is_ascii_lowercase() || next_is_lower));
        if boundary {
            break;
        }
        to += 1;
    }
    Some((from, to))
}

/// Returns how many bytes of a lower-case word are its stem.
///
/// Cuts plural and verb endings and a final `e`, so that merge, merges, merged and merging are
/// one term; it never leaves fewer than three letters. Much lighter than Porter's stemmer: names
/// in code are nouns and verbs of few forms, and every byte of the source goes through here.
pub(crate) fn stem(word: &[u8]) -> usize {
    let mut len = word.len();
    if len <= 3 || word[0].is_ascii_digit() {
        return len;
    }
    if word[..len].ends_with(b"ies") && len > 4 {
        return len - 3;
    }
    if word[len - 1] == b's' && !matches!(word[len - 2], b's' | b'u' | b'i') {
        len -= 1;
        if len > 4 && (word[..len].ends_with(b"sse") || word[..len].ends_with(b"xe")) {
            len -= 1;
        }
    }
    let vowel_in = |to: usize| word[..to].iter().any(|b| b"aeiouy".contains(b));
    for ending in [&b"ing"[..], b"ed", b"er", b"or"] {
        if word[..len].ends_with(ending) {
            let cut = len - ending.len();
            if cut >= 3 && vowel_in(cut) {
                len = cut;
                if len > 3 && word[len - 1] == word[len - 2] && !b"lsz".contains(&word[len - 1]) {
                    len -= 1;
                }
            }
            break;
        }
    }
    if len > 5 && (word[..len].ends_with(b"tion") || word[..len].ends_with(b"sion")) {
        len -= 3;
    }
    if len > 3 && word[len - 1] == b'e' {
        len -= 1;
    }
    if len > 4 && word[len - 1] == b'y' && !b"aeou".contains(&word[len - 2]) {
        len -= 1;
    }
    len
}

fn is_stop_word(word: &str) -> bool {
    use std::sync::LazyLock;
    static STOP: LazyLock<FxHashSet<&str>> = LazyLock::new(|| {
        "a an and are as at be been but by can could did do does for from had has have how i if in \
         into is it its me my no not of on or our should so some than that the their them then \
         there these they this those to too use used uses using via was we were what when where \
         which while who why will with would you your also just only now instead please"
            .split_ascii_whitespace()
            .collect()
    });
    word.len() <= 7 && STOP.contains(word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn terms(text: &str) -> String {
        prose_terms(text).text.trim_end().to_owned()
    }

    #[test]
    fn identifiers_give_their_parts_and_themselves() {
        assert_eq!(
            terms("parseHTTPRequest"),
            "pars http request parsehttprequest"
        );
        assert_eq!(
            terms("parse_http_request"),
            "pars http request parsehttprequest"
        );
        assert_eq!(terms("utf8_len"), "utf len utf8len");
        assert_eq!(terms("__init__"), "init");
    }

    #[test]
    fn inflected_forms_meet() {
        for forms in [
            "merge merges merged merging",
            "parse parser parsers parsing parsed",
            "complete completion completions completed",
            "run running runs",
            "entry entries",
            "index indexes indexing indexer",
            "class classes",
        ] {
            let mut stems: Vec<_> = forms.split(' ').map(terms).collect();
            stems.dedup();
            assert_eq!(stems.len(), 1, "{forms}: {stems:?}");
        }
    }

    #[test]
    fn noise_gives_nothing() {
        assert_eq!(terms("the is of x 1234567 a"), "");
        assert_eq!(terms(&"ab1".repeat(40)), "");
        assert_eq!(terms("=> {} \u{1f600} --"), "");
    }

    #[test]
    fn other_scripts_are_found_by_word_or_character() {
        assert_eq!(terms("Größe 変換 ПРИВЕТ"), "größe 変 換 привет");
    }

    proptest! {
        #[test]
        fn any_text_gives_clean_terms(text in "\\PC{0,200}") {
            let terms = prose_terms(&text);
            prop_assert_eq!(terms.iter().count(), terms.len as usize);
            for term in terms.iter() {
                prop_assert!(term.len() <= 4 * MAX_WORD);
                prop_assert!(!term.bytes().any(|b| b.is_ascii_uppercase()));
            }
        }
    }
}
