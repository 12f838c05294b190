//! Secrets taken out of a text that comes in pieces and is shown as it comes.
//!
//! Holds: what is given out, joined, is what [`redact`](super::redact()) makes of the whole, wherever it
//! is cut; but what stands before the mark of a private key on its line is shown, and lines before the
//! end of one that never began. A word is given out as it is written; one that may become a secret, when
//! it has ended, as is what is assigned to the name of one. A line of a private key is
//! judged when it is whole, as is one with more than [`LONGEST`] bytes without a blank. Nothing is held
//! longer than to the end of its line, or of the text.

use super::redact::{KEY_BLOCK, KEY_MARKS, keep, key_marks, open_value, words};

/// Bytes of a line that are looked at with each piece.
const LONGEST: usize = 16 << 10;

/// A text that is being written.
#[derive(Debug, Default)]
pub struct Stream {
    /// The line that is not whole, without what does not count any more for the rest of it.
    line: String,
    /// How much of it was given out, in bytes.
    n_given: usize,
    /// Whether it is of a private key that began on a line before.
    is_in_key: bool,
}

impl Stream {
    /// Takes in the next piece. Returns what may be shown by now, without secrets.
    pub fn take(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for part in piece.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                self.end_line(&mut shown);
            } else if !self.is_in_key && self.line.len() <= LONGEST {
                self.go_on(&mut shown);
            }
        }
        shown
    }

    /// Returns what is left, as nothing more comes.
    pub fn finish(mut self) -> String {
        let mut shown = String::new();
        self.end_line(&mut shown);
        shown
    }

    fn end_line(&mut self, shown: &mut String) {
        let (begins, ends) = key_marks(&self.line);
        if begins {
            shown.push_str(KEY_BLOCK);
        } else if !self.is_in_key && !ends {
            keep(&self.line, self.n_given..self.line.len(), shown);
        }
        *self = Self {
            is_in_key: (self.is_in_key || begins) && !ends,
            ..Self::default()
        };
    }

    /// Gives out what is decided of a line that is not whole.
    fn go_on(&mut self, shown: &mut String) {
        let line = &self.line;
        let last = words(line).last();
        let open = last.as_ref().filter(|word| word.end() == line.len());
        let word = open
            .filter(|word| word.may_be_secret())
            .map(|word| word.start);
        let mark = KEY_MARKS
            .into_iter()
            .filter_map(|mark| beginning(line, mark));
        let value = open_value(line);
        let undecided = mark.chain(word).chain(value.map(|(start, _)| start));
        let decided = undecided.min().unwrap_or(line.len()).max(self.n_given);
        keep(line, self.n_given..decided, shown);
        // A word is judged by the one before it, a value by its name, and both by whether an address has
        // begun since the last blank.
        let judged_by = last.map_or(0, |word| word.before());
        let before = &line[..value.map_or(judged_by, |(_, name)| name.min(judged_by))];
        let past = before.rfind(char::is_whitespace).unwrap_or(0).min(decided);
        self.line.drain(..past);
        self.n_given = decided - past;
    }
}

/// Where a mark begins in a text, or may begin at its end.
fn beginning(text: &str, mark: &str) -> Option<usize> {
    let may_begin = || {
        let starts = (1..mark.len()).rev().map(|n_bytes| &mark[..n_bytes]);
        let cut = starts.into_iter().find(|start| text.ends_with(start))?;
        Some(text.len() - cut.len())
    };
    text.find(mark).or_else(may_begin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::redact;
    use super::super::redact::tests::{PLAIN, SECRETS};
    use super::*;

    /// How many bytes are shown after each piece, and what is shown at the end.
    fn play(pieces: &[&str]) -> (Vec<usize>, String) {
        let mut stream = Stream::default();
        let mut shown = String::new();
        let mut step = |piece: &&str| {
            shown.push_str(&stream.take(piece));
            shown.len()
        };
        let lengths = pieces.iter().map(&mut step).collect();
        shown.push_str(&stream.finish());
        (lengths, shown)
    }

    fn whole(pieces: &[&str]) -> String {
        play(pieces).1
    }

    fn chars(text: &str) -> Vec<&str> {
        text.split_inclusive(|_| true).collect()
    }

    #[test]
    fn a_secret_that_is_cut_shows_no_more_than_one_that_is_whole() {
        for (text, kept) in SECRETS {
            for (before, after) in [("", ""), ("Take this:\n", "\nand go on.\n"), ("a ", "; b")] {
                if text.contains("-----") && before == "a " {
                    continue;
                }
                let text = format!("{before}{text}{after}");
                let clean = redact(&text);
                if before.is_empty() {
                    assert_eq!(clean, *kept);
                }
                for cut in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                    let (one, other) = text.split_at(cut);
                    assert_eq!(whole(&[one, other]), clean, "{one:?} {other:?}");
                }
                assert_eq!(whole(&chars(&text)), clean, "{text}");
            }
        }
    }

    #[test]
    fn what_stands_before_a_key_on_its_line_is_shown_and_nothing_of_the_key() {
        let text = "KEY = \"-----BEGIN PRIVATE KEY-----\\nMIIEow\\nIBAAK\"\nMIIE\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(whole(&chars(text)), "KEY = \"[redacted private key]\nb\n");
    }

    /// Each piece ends with `|`; behind it, between `<` and `>`, what is not shown by then.
    #[test]
    fn words_are_held_while_they_may_become_secrets_and_no_others_are() {
        for expected in [
            "The| parser| re|ads a |l|in|e, and then|",
            "fn |ma|in() {|\n    let| y|: Opt|ion = None;|\n|",
            "let token| =| self|<self>.next(|",
            "to|ken: |abc|<abc>def|<abcdef>ghi|<abcdefghi>, |b|",
            "token = $|A|B; token = ./|a|b|",
            "a gh|<gh>p_16C7e42F|<ghp_16C7e42F>x b|",
            "password = \"|a|<a> b|<a b>\"| c|; token = $|A|",
            "passwd: #|<#>ab|<#ab>(|z|",
            "s|<s>low e|<e>ye A|<A>ll ghost AK|<AK>A AKIA|<AKIA>BLE|<AKIABLE> xoxb|<xoxb>",
            "Bearer| of|<of> news; bearer ne|<ne>ws|<news>",
            "http://me:80|<80>80/v1|<8080/v1> and 12:30| or|",
            "http://doc|s.rs/ser|de:x|<x>, y:z|",
            "a well-|<->known| |-|<->- b |---|<--->\n---|<--->--|<----->BEGIN CERT|<-----BEGIN CERT>IFICATE-----\nMIIE|a|",
        ] {
            let after_held = |piece: &'static str| piece.split_once('>').map_or(piece, |p| p.1);
            let pieces: Vec<&str> = expected.split('|').map(after_held).collect();
            let pieces = &pieces[..pieces.len() - 1];
            let (shown, all) = play(pieces);
            assert_eq!(all, pieces.concat());
            let (mut told, mut n_given) = (String::new(), 0);
            for (piece, n_shown) in pieces.iter().zip(shown) {
                n_given += piece.len();
                let held = match &all[n_shown..n_given] {
                    "" => String::new(),
                    held => format!("<{held}>"),
                };
                told.push_str(&format!("{piece}|{held}"));
            }
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn of_prose_and_code_no_more_is_held_than_a_part_of_the_last_word() {
        let texts = [
            include_str!("../../../ARCHITECTURE.md"),
            include_str!("../agent/drive.rs"),
        ];
        for text in PLAIN.iter().chain(&texts) {
            assert_eq!(redact(text), *text);
            let (shown, all) = play(&chars(text));
            assert_eq!(all, *text);
            for ((at, c), n_shown) in text.char_indices().zip(shown) {
                let held = &text[n_shown..at + c.len_utf8()];
                // What is assigned to the name of a secret ends with its quote.
                let is_quoted = text[..n_shown].ends_with('"');
                assert!(is_quoted || !held.contains(char::is_whitespace), "{held:?}");
            }
        }
    }

    #[test]
    fn a_line_without_a_blank_that_is_very_long_is_shown_when_it_is_whole() {
        let text = format!("{}\nb", "0123456789abcdef".repeat(1 << 16));
        let pieces: Vec<String> = chars(&text).chunks(64).map(<[&str]>::concat).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let (shown, all) = play(&pieces);
        assert_eq!(shown[100], 101 * 64);
        assert_eq!(shown[pieces.len() - 2], LONGEST);
        assert_eq!(all, text);
        let prose = "a word and ".repeat(1 << 14);
        let (shown, all) = play(&chars(&prose));
        assert_eq!((shown[prose.len() - 1], all), (prose.len(), prose));
    }

    proptest! {
        #[test]
        fn wherever_a_text_is_cut_what_is_shown_of_it_is_what_redact_makes_of_the_whole(
            parts in prop::collection::vec(prop::sample::select(vec![
                "password", "token", "Bearer", "x_", "a", "7", "e", "ghp_", "16C7e42F292c6912E7710", "sk-", "hunter2hunter2",
                "=", ":", ": ", " = ", "\"", "'", "@", "//", "http://", " ", "\t", "\n", ";", "(", ",", "-", "--", ".", "$", "é", "例", "#", "&", "\\", "{", "::",
                "\n-----BEGIN RSA PRIVATE KEY-----\n", "\n-----BEGIN PRIVATE KEY-----", "\n-----END PRIVATE KEY-----", "\n-----BEGIN X-----",
            ]), 0..40),
            n_chars in 1_usize..9,
        ) {
            let text = parts.concat();
            let chars = chars(&text);
            let pieces: Vec<String> = chars.chunks(n_chars).map(<[&str]>::concat).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            // Lines before the end of a key that never began were shown by then.
            let mut is_inside = false;
            let mut ends_unbegun = false;
            for line in text.split_inclusive('\n') {
                let (begins, ends) = key_marks(line);
                ends_unbegun |= ends && !begins && !is_inside;
                is_inside = (is_inside || begins) && !ends;
            }
            if ends_unbegun {
                return Ok(());
            }
            prop_assert_eq!(whole(&pieces), redact(&text), "{:?}", pieces);
        }
    }
}
