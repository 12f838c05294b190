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

/// How names, expressions and paths begin that are not quoted, and what is no assignment after all.
const NO_VALUE: [char; 7] = ['$', '.', '/', '&', ':', '=', '>'];
/// What assigns a value to a name, the longer sign first.
const ASSIGNS: [&str; 4] = [":=", "=>", "=", ":"];
/// Most bytes between a name and its value.
const LONGEST_GAP: usize = 12;
/// Longer values are judged word by word.
const LONGEST_VALUE: usize = 256;
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

/// Cuts out what stands between the marks of private keys, or after one that is never closed, or
/// right before the end of one that began before the text.
fn without_key_blocks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let (begins, ends) = key_marks(line);
        let n_before = match ends && !begins && !is_inside {
            true => n_key_bytes(&kept),
            false => 0,
        };
        if n_before > 0 {
            kept.truncate(kept.len() - n_before);
        }
        if begins || n_before > 0 {
            kept.push_str(KEY_BLOCK);
        }
        if !begins && !is_inside && !ends {
            kept.push_str(line);
        }
        is_inside = (is_inside || begins) && !ends;
    }
    kept
}

/// Bytes of the lines at the end of a text that can be lines of a private key.
fn n_key_bytes(text: &str) -> usize {
    let is_of_key = |line: &&str| {
        let line = line.trim();
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        !line.is_empty() && line.bytes().all(is_base64)
    };
    let lines = text.split_inclusive('\n').rev();
    lines.take_while(is_of_key).map(str::len).sum()
}

/// A run of characters that keys, tokens and names are written with, or a whole value that is a
/// secret, and what decides about it.
pub(super) struct Word<'t> {
    pub(super) start: usize,
    word: &'t str,
    role: Role,
    /// Where the value begins that is assigned to it and would be longer if the text went on.
    opens: Option<usize>,
    /// The word before it, and what stands between.
    before: &'t str,
    gap: &'t str,
    /// Whether `scheme://` stands before, with no blank since.
    is_in_address: bool,
    /// What comes after it.
    next: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Word,
    /// All that is assigned to a name, and a secret as a whole.
    Value,
    /// Part of one.
    InValue,
}

/// The words of a text, a value before the words in it. Nothing before the last end of a line decides
/// about one.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let (mut before, mut before_end, mut is_in_address) = ("", 0, false);
    let (mut value, mut value_end) = (None::<Word<'_>>, 0);
    std::iter::from_fn(move || {
        if let Some(value) = value.take() {
            value_end = value.end();
            return Some(value);
        }
        let start = at + bytes[at..].iter().position(|b| is_value_byte(*b))?;
        let n_bytes = bytes[start..].iter().position(|b| !is_value_byte(*b));
        at = n_bytes.map_or(bytes.len(), |n_bytes| start + n_bytes);
        let (word, gap) = (&text[start..at], &text[before_end..start]);
        is_in_address &= !gap.contains(char::is_whitespace);
        let role = if start < value_end {
            Role::InValue
        } else {
            Role::Word
        };
        let mut found = Word {
            start,
            word,
            role,
            opens: None,
            before,
            gap,
            is_in_address,
            next: bytes.get(at).copied(),
        };
        if let Some(assigned) = assigned(text, &found)
            && assigned.start >= value_end
        {
            found.opens = assigned.is_open.then_some(assigned.start);
            value = assigned.is_secret().then_some(Word {
                start: assigned.start,
                word: assigned.text,
                role: Role::Value,
                opens: None,
                before: word,
                gap: &text[at..assigned.start],
                is_in_address: false,
                next: None,
            });
        }
        is_in_address |= gap.ends_with(':') && word.starts_with("//");
        (before, before_end) = (word, at);
        Some(found)
    })
}

/// What is assigned to a name.
struct Assigned<'t> {
    start: usize,
    text: &'t str,
    is_quoted: bool,
    /// Whether it would be longer if the text went on.
    is_open: bool,
}

/// Returns where a value begins that would be longer if the line went on, and where its name does.
pub(super) fn open_value(line: &str) -> Option<(usize, usize)> {
    words(line).find_map(|name| Some((name.opens?, name.start)))
}

/// Returns the value that is assigned to a word that names a secret: to the closing quote, else to the
/// next blank or the end of what it is part of. Expressions are none.
fn assigned<'t>(text: &'t str, name: &Word<'t>) -> Option<Assigned<'t>> {
    let rest = &text[name.end()..];
    let is_blank = |c: char| matches!(c, ' ' | '\t');
    let sign = rest.trim_start_matches(|c| is_blank(c) || matches!(c, '"' | '\'' | '\\'));
    let after = ASSIGNS
        .iter()
        .find_map(|sign_is| sign.strip_prefix(sign_is))?;
    if !is_secret_name(name.word) {
        return None;
    }
    let after = after.trim_start_matches(is_blank);
    let opening = after.trim_start_matches('\\');
    let quote = opening.chars().next().filter(|c| matches!(c, '"' | '\''));
    let value = if quote.is_some() {
        &opening[1..]
    } else {
        after
    };
    let start = text.len() - value.len();
    if start - name.end() > LONGEST_GAP {
        return None;
    }
    let is_whole = value.len() <= LONGEST_VALUE;
    let value = &value[..value.floor_char_boundary(LONGEST_VALUE)];
    let n_line = value.find(['\n', '\r']);
    let is_whole = is_whole && n_line.is_none();
    let line = &value[..n_line.unwrap_or(value.len())];
    if let Some(quote) = quote {
        let closing = closing(line, quote, opening.len() < after.len());
        let end = closing.or_else(|| line.find(char::is_whitespace));
        let is_cut = end.is_none() && n_line.is_none() && !is_whole;
        return (!is_cut).then_some(Assigned {
            start,
            text: &line[..end.unwrap_or(line.len())],
            is_quoted: true,
            is_open: closing.is_none() && is_whole,
        });
    }
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(c, '"' | '\'' | '`' | ',' | ';' | ')' | ']' | '}')
            || name.is_in_address && matches!(c, '&' | '#')
    };
    let end = line.find(ends);
    let value = &line[..end.unwrap_or(line.len())];
    let is_expression = value.starts_with(NO_VALUE)
        || value.contains(['(', '[', '{', '<', '>', '|', '\\'])
        || ["::", "?.", "://"].iter().any(|sign| value.contains(sign));
    let is_cut = end.is_none() && n_line.is_none() && !is_whole;
    (!is_expression && !is_cut).then_some(Assigned {
        start,
        text: value,
        is_quoted: false,
        is_open: end.is_none() && is_whole,
    })
}

/// Where the quote is that closes a text, or the backslashes before it where it was opened by an
/// escaped one.
fn closing(text: &str, quote: char, is_escaped: bool) -> Option<usize> {
    let mut n_backslashes = 0;
    for (at, c) in text.char_indices() {
        if c == quote && is_escaped {
            return Some(at - n_backslashes);
        }
        if c == quote && n_backslashes % 2 == 0 {
            return Some(at);
        }
        n_backslashes = if c == '\\' { n_backslashes + 1 } else { 0 };
    }
    None
}

impl Assigned<'_> {
    fn is_secret(&self) -> bool {
        if !self.is_quoted {
            return is_secret_word(self.text);
        }
        let mut words = self.text.split_whitespace();
        let is_borne = self
            .text
            .get(..7)
            .is_some_and(|b| b.eq_ignore_ascii_case("bearer "));
        !is_borne && !stands_for_value(self.text) && words.any(is_secret_word)
    }
}

/// Whether a quoted text is a placeholder, the name of a variable, a path or an address.
fn stands_for_value(text: &str) -> bool {
    let is_of_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let is_name = |name: &str| name.bytes().all(is_of_name);
    let is_path = || {
        ["/", "./", "../", "~/"]
            .iter()
            .any(|start| text.starts_with(start))
            && text.split('/').skip(1).count() > 1
            && !text.split('/').any(is_word)
    };
    (text.contains('{') && text.contains('}'))
        || (text.starts_with('<') && text.ends_with('>'))
        || ["$(", "%(", "://"].iter().any(|sign| text.contains(sign))
        || text.strip_prefix('$').is_some_and(is_name)
        || is_path()
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
        if self.role == Role::InValue {
            None
        } else if is_key(self.word) {
            Some("key")
        } else if self.role == Role::Value || self.is_assigned() && is_secret_value(self.word) {
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
    ASSIGNS.contains(&signs) && gap.len() <= LONGEST_GAP
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
    !word.starts_with(NO_VALUE) && is_secret_word(word)
}

fn is_secret_word(word: &str) -> bool {
    let letters = word.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = word.bytes().any(|b| b.is_ascii_digit());
    word.len() >= SHORTEST && (letters && digits || is_word(word))
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
        ("DB_PASSWORD=#S3cretValue9", "DB_PASSWORD=[redacted value]"),
        ("passwd: p\u{e4}ss@w0rd", "passwd: [redacted value]"),
        (
            "password = \"p@ssw0rd2024\"",
            "password = \"[redacted value]\"",
        ),
        (
            "api_key='$ecret12345', port=1",
            "api_key='[redacted value]', port=1",
        ),
        (
            "secret: Tr0ub4dor&3xyz9abc # of the shop",
            "secret: [redacted value] # of the shop",
        ),
        (
            "password = \"correct horse b4tteries\"; token = \"/x1(y2)z3\"",
            "password = \"[redacted value]\"; token = \"[redacted value]\"",
        ),
        (
            "{\\\"password\\\": \\\"a\\b@c1d2e3f4\\\", \\\"n\\\": 1}",
            "{\\\"password\\\": \\\"[redacted value]\\\", \\\"n\\\": 1}",
        ),
        (
            "password = \"a\\\"b@c1d2e3f4\"",
            "password = \"[redacted value]\"",
        ),
        (
            "https://a.example/?token=abc12345&page=2#top",
            "https://a.example/?token=[redacted value]&page=2#top",
        ),
        (
            "\"Authorization\": \"Bearer abc123def456\"",
            "\"Authorization\": \"Bearer [redacted token]\"",
        ),
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
        "password = getPassword(x)",
        "password = getPassword(form1.password, \"a b\")",
        "token = $TOKEN",
        "token = $TOKEN_12345",
        "token: \"$TOKEN_12345\"",
        "password=${DB_PASSWORD_1:-none}",
        "password: \"${DB_PASSWORD_1}\"",
        "password = \"{{ vault_password_1 }}\"",
        "api_key: <your-api-key-1>",
        "api_key: \"<your-api-key-1>\"",
        "secret = md5::compute(&x)",
        "token = base64::Encoder1",
        "token == other_1234567",
        "token :: Token12345",
        "token = &tokens_1;",
        "token = user1?.token",
        "secret: Option<Secret16>,",
        "password = \"/run/secrets/db_password_1\"",
        "\"authorization\": \"https://example.com/oauth2/authorize\"",
        "\"password\": \"Enter 8 characters or more\"",
        "password = \"\", user = \"joe12345\"",
        "for token in tokens: x12345678",
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

    /// Reading each value to its end takes minutes.
    #[test]
    fn many_names_without_an_end_of_the_value_are_read_once() {
        for text in ["token=", "token='token=", "token:\""] {
            let text = text.repeat(1 << 15);
            assert_eq!(redact(&text), text);
        }
    }

    /// As of a window of a file, or of a terminal.
    #[test]
    fn what_stands_before_the_end_of_a_private_key_that_began_before_is_taken_out() {
        let end = "-----END PRIVATE KEY-----\n";
        for (text, kept) in [
            ("MIIEvQIBADAN/+\nab=\n", "[redacted private key]\n"),
            ("$ cat key\nMIIE\n", "$ cat key\n[redacted private key]\n"),
            ("not of a key.\n", "not of a key.\n"),
        ] {
            assert_eq!(
                redact(&format!("{text}{end}after\n")),
                format!("{kept}after\n")
            );
        }
    }

    #[test]
    fn taking_out_twice_changes_nothing_more() {
        let once = redact("token: abcdef123456 and AKIAIOSFODNN7EXAMPLE1").into_owned();
        assert_eq!(redact(&once), once);
    }
}
