//! What looks like a secret in a text: keys never quoted nor learnt from, words never suggested.
//!
//! Holds: one list for every reader of the user's text, so that what is kept from the model is
//! kept from the embedded engine too. Which files are secret by their path says
//! [`indexer::FileClass`].
//! Not here: what a reader does about it, secrets among the server's own settings (`config`).

mod redact;
mod stream;

use indexer::FileClass;

pub use self::redact::{MARK, redact, redact_piece};
pub use self::stream::Stream;

/// Beginnings of keys that well-known services hand out.
const KEY_STARTS: &[&str] = &[
    "AIza",
    "AKIA",
    "ASIA",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat",
    "rk_live_",
    "sk_live_",
    "xoxb",
    "xoxp",
];

/// Returns whether a file of this path holds keys, passwords or other credentials by its name.
pub fn is_path(path: &str) -> bool {
    FileClass::of_path(path) == FileClass::Secret
}

/// Returns whether a text holds a private key.
pub fn is_key_file(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// Shorter words are names.
const SHORTEST: usize = 20;
/// Changes between letters and digits that no name has.
const TURNS: usize = 4;

/// Returns whether a run of word characters looks like a key or token: long, and letters and
/// digits taking turns as in no name; or as a well-known service writes its keys.
pub fn is_word(word: &str) -> bool {
    is_key(word) || word.len() >= SHORTEST && !word.contains('_') && n_turns(word) >= TURNS
}

/// How keys of OpenAI, Anthropic and others begin; names of styles begin so as well.
const OTHER_KEY_START: &str = "sk-";

/// Returns whether a word is a key as a well-known service writes them.
fn is_key(word: &str) -> bool {
    let least = match KEY_STARTS.iter().any(|start| word.starts_with(start)) {
        true => 1,
        false if word.starts_with(OTHER_KEY_START) => TURNS,
        false => return false,
    };
    word.len() >= SHORTEST && n_turns(word) >= least
}

/// Returns whether a word that may go on is or would be a key if it went on in some way.
fn may_be_key(word: &str) -> bool {
    let mut starts = KEY_STARTS.iter().chain([&OTHER_KEY_START]);
    starts.any(|start| word.starts_with(start) || start.starts_with(word))
}

/// How often a letter follows a digit or a digit a letter.
fn n_turns(word: &str) -> usize {
    let is_digit: Vec<bool> = word
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|b| b.is_ascii_digit())
        .collect();
    is_digit
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_by_their_letters() {
        for word in [
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "AKIAIOSFODNN7EXAMPLE",
            "9f86d081884c7d659a2feaa0c55ad015",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
            "sk-proj-4fT9aQ_x2Lm7-Zp0bR8c",
        ] {
            assert!(is_word(word), "{word}");
        }
        for word in [
            "parse_iso8601_date_time_with_millis",
            "parseISO8601DateTimeWithMillis",
            "AbstractSingletonProxyFactoryBean",
            "9f86d08",
            "sk-folding-cube-animation-2",
            "1000000000000000000000",
        ] {
            assert!(!is_word(word), "{word}");
        }
    }
}
