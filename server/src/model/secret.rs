//! Text that must never be shown: keys and the values of extra headers.
//!
//! Holds: a [`Secret`] has no content in `Debug` and no `Display`; its memory is cleared when
//! it is dropped. [`Redactor`] takes secrets back out of what a server says.

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

/// A key or password. Reading it takes an explicit [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text, to be put on the wire and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Shortest run of a secret that is taken out of a text: servers echo keys cut to a few
/// characters at either end.
const SHORTEST_RUN: usize = 6;

/// What stands in the place of a secret.
const MASK: &str = "[redacted]";

/// Takes secrets, and long enough pieces of them, out of text written by a server.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    secrets: Vec<Secret>,
}

impl Redactor {
    pub(crate) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self {
            secrets: secrets
                .into_iter()
                .filter(|s| !s.expose().is_empty())
                .collect(),
        }
    }

    /// Returns `text` with every run of [`SHORTEST_RUN`] or more characters that is also in a
    /// secret masked. O(text × secret); `text` is expected to be an error message.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.secrets {
            clean = mask_runs(&clean, secret.expose());
        }
        clean
    }
}

fn mask_runs(text: &str, secret: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let secret: Vec<char> = secret.chars().collect();
    let shortest = SHORTEST_RUN.min(secret.len());
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let run = longest_run(&text[at..], &secret);
        if run >= shortest {
            clean.push_str(MASK);
            at += run;
        } else {
            clean.push(text[at]);
            at += 1;
        }
    }
    clean
}

/// Length of the longest start of `text` that occurs anywhere in `secret`.
fn longest_run(text: &[char], secret: &[char]) -> usize {
    (0..secret.len())
        .map(|from| {
            text.iter()
                .zip(&secret[from..])
                .take_while(|(a, b)| a == b)
                .count()
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let shown = format!("{:?}", Secret::new("sk-live-0123456789"));
        assert_eq!(shown, "Secret(…)");
    }

    #[test]
    fn echoed_keys_are_masked_whole_and_in_part() {
        let redactor = Redactor::new([Secret::new("sk-live-0123456789abcdef")]);
        let cases = [
            ("bad key sk-live-0123456789abcdef!", "bad key [redacted]!"),
            ("key sk-live-****abcdef", "key [redacted]****[redacted]"),
            ("nothing to see", "nothing to see"),
            ("sk-x is short", "sk-x is short"),
        ];
        for (said, shown) in cases {
            assert_eq!(redactor.redact(said), shown);
        }
    }

    #[test]
    fn a_secret_shorter_than_a_run_is_still_masked() {
        let redactor = Redactor::new([Secret::new("abc")]);
        assert_eq!(
            redactor.redact("key abc rejected"),
            "key [redacted] rejected"
        );
    }
}
