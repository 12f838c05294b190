//! Secrets taken out of a text before it is kept or sent.
//!
//! Holds: what a rule names is replaced by a mark that says which rule; the rest of the text stays
//! byte for byte. Linear in the text. Hashes of commits and files are no secrets and stay.
//! Not here: secrets that look like nothing. A password in a sentence is not found.

use std::borrow::Cow;

use super::{is_key, is_key_file, is_word};

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

/// How every mark begins that stands where a secret was.
pub const MARK: &str = "[redacted ";

/// Returns `text` without the secrets that can be told by their form: private keys, tokens of
/// well-known services, values assigned to names such as `password`, bearer tokens, and passwords
/// in addresses.
pub fn redact(text: &str) -> Cow<'_, str> {
    let text = match is_key_file(text) {
        true => Cow::Owned(without_key_blocks(text)),
        false => Cow::Borrowed(text),
    };
    let found = spans(&text);
    if found.is_empty() {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end, rule) in found {
        if start >= at {
            kept.push_str(&text[at..start]);
            kept.push_str(MARK);
            kept.push_str(rule);
            kept.push(']');
            at = end;
        }
    }
    kept.push_str(&text[at..]);
    Cow::Owned(kept)
}

/// Cuts out what stands between the marks of private keys, or after one that is never closed.
fn without_key_blocks(text: &str) -> String {
    const END: &str = "PRIVATE KEY-----";
    let mut kept = String::with_capacity(text.len());
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let begins = line.contains("-----BEGIN") && line.contains(END);
        let ends = line.contains("-----END") && line.contains(END);
        if begins {
            kept.push_str("[redacted private key]\n");
        }
        if !begins && !is_inside && !ends {
            kept.push_str(line);
        }
        is_inside = (is_inside || begins) && !ends;
    }
    kept
}

/// Where secrets are, and by which rule, in rising order.
fn spans(text: &str) -> Vec<(usize, usize, &'static str)> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    // The last word, to see what a value is assigned to.
    let mut before = "";
    let mut before_end = 0;
    // Whether `scheme://` stands before, with no blank since.
    let mut is_in_address = false;
    while at < bytes.len() {
        if !is_value_byte(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_value_byte(bytes[at]) {
            at += 1;
        }
        let word = &text[start..at];
        let gap = &text[before_end..start];
        is_in_address &= !gap.contains(char::is_whitespace);
        if is_key(word) {
            found.push((start, at, "key"));
        } else if is_assignment(gap) && is_secret_name(before) && is_secret_value(word) {
            found.push((start, at, "value"));
        } else if before.eq_ignore_ascii_case("bearer")
            && is_secret_value(word)
            && !gap.contains('\n')
        {
            found.push((start, at, "token"));
        } else if is_in_address && bytes.get(at) == Some(&b'@') && gap.ends_with(':') {
            found.push((start, at, "password"));
        }
        is_in_address |= gap.ends_with(':') && word.starts_with("//");
        before = word;
        before_end = at;
    }
    found
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
    word.len() >= SHORTEST
        && !word.starts_with(['$', '.', '/'])
        && (letters && digits || is_word(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_nothing_else() {
        for (text, kept) in [
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
        ] {
            assert_eq!(redact(text), kept, "{text}");
        }
    }

    #[test]
    fn code_hashes_and_names_stay() {
        for text in [
            "commit 9f86d081884c7d659a2feaa0c55ad0159f86d081",
            "let token = parser.next_token();",
            "password: String,",
            "token = self.tokens[index1]",
            "if api_key == None:",
            "git@github.com:owner/name.git",
            "https://docs.rs/serde/1.0.0/serde/",
        ] {
            assert_eq!(redact(text), text);
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
