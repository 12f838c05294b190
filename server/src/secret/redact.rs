//! Secrets taken out of a text before it is kept or sent.
//!
//! Holds: what a rule names is replaced by a mark that says which rule; the rest of the text stays
//! byte for byte. Linear in the text. Hashes of commits and files are no secrets and stay.
//! Not here: secrets that look like nothing. A password in a sentence is not found.

use std::borrow::Cow;
use std::ops::Range;

use super::{is_key, is_key_file, is_word, may_be_key};

/// Names whose values are secrets when they are assigned.
const NAMES: &[&str] = &[
    "access_key",
    "accesskey",
    "api_key",
    "api-key",
    "apikey",
    "auth_token",
    "authtoken",
    "authorization",
    "client_secret",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "secret_key",
    "token",
];
/// Values shorter than this are placeholders.
const SHORTEST: usize = 8;

/// How names, expressions and paths begin.
const NO_VALUE: [char; 3] = ['$', '.', '/'];
/// What lines of private keys have where they begin and where they end.
pub(super) const KEY_MARKS: [&str; 2] = ["-----BEGIN", "-----END"];
/// What stands for one.
pub(super) const KEY_BLOCK: &str = "[redacted private key]\n";

/// How every mark begins that stands where a secret was.
pub const MARK: &str = "[redacted ";

/// Returns `text` without the secrets that can be told by their form: private keys, tokens of
/// well-known services, values assigned to names such as `password`, bearer tokens, and passwords
/// in addresses.
pub fn redact(text: &str) -> Cow<'_, str> {
    if is_key_file(text) {
        let text = without_key_blocks(text);
        return Cow::Owned(without_words(&text).unwrap_or(text));
    }
    without_words(text).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// As [`redact`], for a piece of a longer text: a private key that begins above it is taken out too.
pub fn redact_piece(piece: &str) -> Cow<'_, str> {
    let mut marks = piece.lines().map(key_marks);
    let is_in_key =
        is_key_file(piece) && marks.find(|(begins, ends)| *begins || *ends) == Some((false, true));
    if !is_in_key {
        return redact(piece);
    }
    let whole = format!("{} PRIVATE KEY-----\n{piece}", KEY_MARKS[0]);
    Cow::Owned(redact(&whole).into_owned())
}

/// `None` where there is nothing to take out.
fn without_words(text: &str) -> Option<String> {
    words(text).find_map(|word| word.rule())?;
    let mut kept = String::with_capacity(text.len());
    keep(text, 0..text.len(), &mut kept);
    Some(kept)
}

/// Adds a part of a text, with marks where secrets are. No word may go beyond its ends.
pub(super) fn keep(text: &str, part: Range<usize>, kept: &mut String) {
    let mut at = part.start;
    for word in words(text) {
        let Some(rule) = word.rule() else { continue };
        if word.start < at || word.end() > part.end {
            continue;
        }
        kept.push_str(&text[at..word.start]);
        kept.push_str(MARK);
        kept.push_str(rule);
        kept.push(']');
        at = word.end();
    }
    kept.push_str(&text[at..part.end]);
}

/// Whether a line begins a private key, and whether it ends one.
pub(super) fn key_marks(line: &str) -> (bool, bool) {
    let is_of_key = is_key_file(line);
    let [begin, end] = KEY_MARKS;
    (
        is_of_key && line.contains(begin),
        is_of_key && line.contains(end),
    )
}

/// Cuts out what stands between the marks of private keys, or after one that is never closed.
fn without_key_blocks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let (begins, ends) = key_marks(line);
        if begins {
            kept.push_str(KEY_BLOCK);
        }
        if !begins && !is_inside && !ends {
            kept.push_str(line);
        }
        is_inside = (is_inside || begins) && !ends;
    }
    kept
}

/// A run of characters that keys, tokens and names are written with, and what decides about it.
pub(super) struct Word<'t> {
    pub(super) start: usize,
    word: &'t str,
    /// The word before it, and what stands between.
    before: &'t str,
    gap: &'t str,
    /// Whether `scheme://` stands before, with no blank since.
    is_in_address: bool,
    /// What comes after it.
    next: Option<u8>,
}

/// The words of a text. Nothing before the last end of a line decides about one.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let (mut before, mut before_end, mut is_in_address) = ("", 0, false);
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|b| is_value_byte(*b))?;
        let n_bytes = bytes[start..].iter().position(|b| !is_value_byte(*b));
        at = n_bytes.map_or(bytes.len(), |n_bytes| start + n_bytes);
        let (word, gap) = (&text[start..at], &text[before_end..start]);
        is_in_address &= !gap.contains(char::is_whitespace);
        let found = Word {
            start,
            word,
            before,
            gap,
            is_in_address,
            next: bytes.get(at).copied(),
        };
        is_in_address |= gap.ends_with(':') && word.starts_with("//");
        (before, before_end) = (word, at);
        Some(found)
    })
}

impl Word<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.word.len()
    }

    /// Where the word before it begins.
    pub(super) fn before(&self) -> usize {
        self.start - self.gap.len() - self.before.len()
    }

    /// By which rule it is a secret, if it is one.
    fn rule(&self) -> Option<&'static str> {
        if is_key(self.word) {
            Some("key")
        } else if self.is_assigned() && is_secret_value(self.word) {
            Some("value")
        } else if self.is_borne() && is_secret_value(self.word) {
            Some("token")
        } else if self.is_password() && self.next == Some(b'@') {
            Some("password")
        } else {
            None
        }
    }

    /// Whether it is a secret, or would be if it went on in some way.
    pub(super) fn may_be_secret(&self) -> bool {
        may_be_key(self.word)
            || (self.is_assigned() || self.is_borne()) && !self.word.starts_with(NO_VALUE)
            || self.is_password()
    }

    fn is_assigned(&self) -> bool {
        is_assignment(self.gap) && is_secret_name(self.before)
    }

    fn is_borne(&self) -> bool {
        self.before.eq_ignore_ascii_case("bearer") && !self.gap.contains('\n')
    }

    /// Whether it stands where an address has a password.
    fn is_password(&self) -> bool {
        self.is_in_address && self.gap.ends_with(':')
    }
}

/// Characters that keys, tokens and names are written with.
fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'_' | b'-' | b'.' | b'+' | b'/' | b'~' | b'!' | b'$' | b'%' | b'^' | b'*'
        )
}

/// Whether what stands between a name and a value assigns the one to the other.
fn is_assignment(gap: &str) -> bool {
    let signs = gap.trim_matches(|c: char| matches!(c, ' ' | '\t' | '"' | '\'' | '\\'));
    matches!(signs, "=" | ":" | ":=" | "=>") && gap.len() <= 12
}

fn is_secret_name(name: &str) -> bool {
    let name = name
        .trim_start_matches(['-', '.', '$'])
        .to_ascii_lowercase();
    NAMES.iter().any(|known| {
        name.strip_suffix(known)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(['_', '-', '.']))
    })
}

/// A value, and not a name that stands for one, an expression or a path.
fn is_secret_value(word: &str) -> bool {
    let letters = word.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = word.bytes().any(|b| b.is_ascii_digit());
    word.len() >= SHORTEST && !word.starts_with(NO_VALUE) && (letters && digits || is_word(word))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Texts, and what is kept of them.
    pub(in crate::secret) const SECRETS: &[(&str, &str)] = &[
        (
            "export GITHUB=ghp_16C7e42F292c6912E7710c838347Ae178B4a;",
            "export GITHUB=[redacted key];",
        ),
        (
            "password = \"hunter2hunter2\"\n",
            "password = \"[redacted value]\"\n",
        ),
        (
            "{\"api_key\": \"a1b2c3d4e5\"}",
            "{\"api_key\": \"[redacted value]\"}",
        ),
        ("DB_PASSWORD=s3cretvalue9", "DB_PASSWORD=[redacted value]"),
        (
            "Authorization: Bearer abc123def456",
            "Authorization: Bearer [redacted token]",
        ),
        (
            "postgres://me:pa55word@host/db",
            "postgres://me:[redacted password]@host/db",
        ),
        (
            "amqp://a:b@c,d:pa55word@host x:y@z",
            "amqp://a:[redacted password]@c,d:[redacted password]@host x:y@z",
        ),
        (
            "client = Anthropic(\"sk-ant-api03-a1B2c3D4e5F6g7\")",
            "client = Anthropic(\"[redacted key]\")",
        ),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[redacted private key]\nb",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE",
            "[redacted private key]\n",
        ),
    ];
    /// Texts of which everything is kept.
    pub(in crate::secret) const PLAIN: &[&str] = &[
        "commit 9f86d081884c7d659a2feaa0c55ad0159f86d081",
        "let token = parser.next_token();",
        "password: String,",
        "token = self.tokens[index1]",
        "if api_key == None:",
        "git@github.com:owner/name.git",
        "https://docs.rs/serde/1.0.0/serde/",
    ];

    #[test]
    fn secrets_are_taken_out_and_nothing_else() {
        for (text, kept) in SECRETS {
            assert_eq!(redact(text), *kept, "{text}");
        }
    }

    #[test]
    fn of_a_piece_the_end_of_a_key_is_taken_out() {
        for (piece, kept) in [
            (
                "MIIE\nIBAAK\n-----END RSA PRIVATE KEY-----\nb",
                "[redacted private key]\nb",
            ),
            (
                "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb",
                "a\n[redacted private key]\nb",
            ),
            ("MIIE\nIBAAK", "MIIE\nIBAAK"),
        ] {
            assert_eq!(redact_piece(piece), kept, "{piece}");
        }
    }

    #[test]
    fn code_hashes_and_names_stay() {
        for text in PLAIN {
            assert_eq!(redact(text), *text);
        }
    }

    /// Looking back to the last blank at each of them takes minutes.
    #[test]
    fn many_addresses_without_a_blank_are_read_once() {
        let text = "a:b@".repeat(1 << 20);
        assert_eq!(redact(&text), text);
        let text = format!("http://{text}");
        let n_taken = redact(&text).matches("[redacted password]").count();
        assert_eq!(n_taken, 1 << 20);
    }

    #[test]
    fn taking_out_twice_changes_nothing_more() {
        let once = redact("token: abcdef123456 and AKIAIOSFODNN7EXAMPLE1").into_owned();
        assert_eq!(redact(&once), once);
    }
}
