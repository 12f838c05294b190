//! What a model writes into files, told while it still writes the call of `edit`.
//!
//! Holds: it is shown and nothing else. Nothing of it is located, kept or applied: that begins when
//! the call is whole. It is told by whole lines, and not further than where a secret was taken out
//! of what was told before. What is told of one call is bounded, and so is how often.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::tools::edit;
use crate::secret::redact;
use crate::store::events::EventKind;

/// How often it is told.
const EVERY: Duration = Duration::from_millis(100);
/// Bytes told of one call at most.
const MOST: usize = 64 << 10;
/// Bytes of arguments that are looked at.
const MOST_ARGUMENTS: usize = 4 * MOST;
/// Arguments that hold what becomes of a file.
const TEXTS: &[&str] = &["newString", "new_string", "content", "patch"];

/// The call that is being written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    /// Counts the calls of the answer, from 1.
    nth: usize,
    is_edit: bool,
    arguments: String,
    told: String,
    /// When there may be something new to tell; `None` when there is not.
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Writing {
    /// Takes in the next piece of a call.
    pub(super) fn take(&mut self, nth: usize, name: &str, piece: &str) {
        if self.nth != nth {
            *self = Self {
                nth,
                is_edit: name == edit::NAME,
                last: self.last,
                ..Self::default()
            };
        }
        if !self.is_edit || self.arguments.len() > MOST_ARGUMENTS {
            return;
        }
        self.arguments.push_str(piece);
        // Whatever is new by the end of a line.
        if piece.contains('n') || piece.contains('}') {
            let next = self.last.map_or_else(Instant::now, |last| last + EVERY);
            self.due.get_or_insert(next);
        }
    }

    /// Waits until there may be something to tell.
    pub(super) async fn is_due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Returns what is to be told by now, for the call of this id.
    pub(super) fn tell(&mut self, id: impl Fn(usize) -> String) -> Option<EventKind> {
        self.due.take()?;
        self.last = Some(Instant::now());
        let fields = fields(&self.arguments);
        let of = |names: &[&str]| {
            let mut found = fields
                .iter()
                .filter(|(name, _)| names.contains(&name.as_str()));
            found.next_back().map(|(_, text)| text.as_str())
        };
        let text = of(TEXTS)?;
        let whole = &text[..text.rfind('\n')? + 1];
        let clean = redact(whole);
        // What was told is another by now: a secret was found that began there.
        let new = clean.strip_prefix(&self.told)?;
        let room = MOST.saturating_sub(self.told.len());
        let new = &new[..new.floor_char_boundary(room)];
        if new.is_empty() {
            return None;
        }
        let kind = EventKind::Writing {
            call: id(self.nth),
            path: of(&["path", "file_path"]).map(str::to_owned),
            text: new.to_owned(),
        };
        self.told.push_str(new);
        Some(kind)
    }
}

/// Reads the texts of an object that is not whole: their names, and as much of them as there is.
fn fields(json: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some(mut rest) = json.trim_start().strip_prefix('{') else {
        return found;
    };
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        let Some((name, after)) = string(rest) else {
            return found;
        };
        let Some(value) = after.trim_start().strip_prefix(':').map(str::trim_start) else {
            return found;
        };
        if let Some((text, after)) = string(value) {
            found.push((name, text));
            rest = after;
            continue;
        }
        // No tool takes more than numbers and the like besides.
        let Some(end) = value.find([',', '}', '{', '[']) else {
            return found;
        };
        rest = &value[end..];
    }
}

/// Reads a text in quotes, or what there is of it, and what comes after.
fn string(json: &str) -> Option<(String, &str)> {
    let body = json.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = body.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    let raw = &body[..end.unwrap_or(body.len())];
    let after = end.map_or("", |end| &body[end + 1..]);
    // What was cut within an escape is read without it; the longest is a pair of `\uXXXX`.
    let cuts = (0..=raw.len().min(12)).map(|n| raw.len() - n);
    let mut whole = cuts.filter(|cut| raw.is_char_boundary(*cut));
    let text =
        whole.find_map(
            |cut| match serde_json::from_str(&format!("\"{}\"", &raw[..cut])) {
                Ok(Value::String(text)) => Some(text),
                _ => None,
            },
        )?;
    Some((text, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(kind: Option<EventKind>) -> Option<(Option<String>, String)> {
        match kind? {
            EventKind::Writing { path, text, .. } => Some((path, text)),
            other => panic!("{other:?}"),
        }
    }

    fn told(writing: &mut Writing) -> Option<(Option<String>, String)> {
        text(writing.tell(|nth| format!("c{nth}")))
    }

    #[tokio::test(start_paused = true)]
    async fn whole_lines_are_told_as_they_come_and_not_too_often() {
        let mut writing = Writing::default();
        writing.take(
            1,
            "edit",
            r#"{"path": "a.rs", "replaceAll": true, "oldString": "x\ny", "#,
        );
        assert_eq!(told(&mut writing), None, "what goes is not what comes");
        writing.take(1, "edit", r#""newString": "one\ntw"#);
        let first = told(&mut writing).unwrap();
        assert_eq!(first, (Some("a.rs".into()), "one\n".into()));
        writing.take(1, "edit", r"o\nthree\n");
        let since = Instant::now();
        writing.is_due().await;
        assert_eq!(since.elapsed(), EVERY);
        assert_eq!(told(&mut writing).unwrap().1, "two\nthree\n");
        assert_eq!(told(&mut writing), None, "nothing is new");
        writing.take(2, "run", r#"{"command": "ls\n"}"#);
        assert_eq!(told(&mut writing), None, "only edits are told");
    }

    #[test]
    fn a_key_is_told_by_none_of_its_lines() {
        let lines = "a = 1\n-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nb3Blbn\n-----END RSA PRIVATE KEY-----\nb = 2\n";
        let call = json!({ "path": "k", "content": lines }).to_string();
        let mut writing = Writing::default();
        let mut all = String::new();
        for piece in call.as_bytes().chunks(3) {
            writing.take(1, "edit", std::str::from_utf8(piece).unwrap());
            writing.due.get_or_insert_with(Instant::now);
            all.push_str(&told(&mut writing).map_or(String::new(), |(_, text)| text));
        }
        assert_eq!(all, "a = 1\n[redacted private key]\nb = 2\n");
    }

    #[test]
    fn what_is_told_of_a_call_is_bounded() {
        let call = json!({ "path": "k", "content": "0123456\n".repeat(MOST) }).to_string();
        let mut writing = Writing::default();
        let mut n_bytes = 0;
        for piece in call.as_bytes().chunks(4096) {
            writing.take(1, "edit", std::str::from_utf8(piece).unwrap());
            n_bytes += told(&mut writing).map_or(0, |(_, text)| text.len());
        }
        assert_eq!(n_bytes, MOST);
        assert!(writing.arguments.len() <= MOST_ARGUMENTS + 4096);
    }

    proptest! {
        /// Wherever a call is cut, what there is of its texts is how they begin.
        #[test]
        fn every_beginning_of_a_call_is_read(content in any::<String>(), n in any::<u32>(), at in any::<prop::sample::Index>()) {
            let call = json!({ "path": "p", "n": n, "z": content }).to_string();
            let mut cut = at.index(call.len() + 1);
            while !call.is_char_boundary(cut) {
                cut -= 1;
            }
            for (name, text) in fields(&call[..cut]) {
                match name.as_str() {
                    "path" => prop_assert!("p".starts_with(&text)),
                    "z" => prop_assert!(content.starts_with(&text), "{text:?}"),
                    other => prop_assert!("path".starts_with(other) || other == "n" || other.is_empty(), "{other}"),
                }
            }
            let whole = fields(&call);
            prop_assert_eq!(whole.last(), Some(&("z".to_owned(), content)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(json in r#"[{}\[\]":,\\a-cnu0-9\n ]{0,60}"#) {
            let _ = fields(&json);
        }
    }
}
