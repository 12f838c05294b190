//! Ends a streamed text where it has to end: at a control token, or a stop string of the caller.
//!
//! Holds: no control token, nor more than half of one at the end of an answer, is ever passed
//! on; the same text comes out however it was split on the way in. At most one marker's length
//! of text is held back.

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// A control token leaked, or told the end.
    Control,
    /// One of the caller's stop strings.
    Stop,
}

/// Cuts a stream of text at the first marker.
#[derive(Debug)]
pub(super) struct StopFilter {
    /// Without duplicates and empty ones; control tokens before stop strings.
    markers: Vec<(String, Marker)>,
    /// Whether a byte can begin a marker.
    begins: [bool; 256],
    held: String,
    ended: Option<Marker>,
}

impl StopFilter {
    pub(super) fn new<'a>(
        control: impl IntoIterator<Item = &'a str>,
        stop: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let control = control
            .into_iter()
            .map(|text| (text.to_owned(), Marker::Control));
        let stop = stop.into_iter().map(|text| (text.to_owned(), Marker::Stop));
        let markers: Vec<_> = control
            .chain(stop)
            .filter(|(text, _)| !text.is_empty())
            .collect();
        let mut begins = [false; 256];
        for (text, _) in &markers {
            begins[usize::from(text.as_bytes()[0])] = true;
        }
        Self {
            markers,
            begins,
            held: String::new(),
            ended: None,
        }
    }

    /// Takes the next piece of the answer and appends what may be passed on to `out`. Returns
    /// the marker when the text has ended; then it stays ended.
    pub(super) fn push(&mut self, piece: &str, out: &mut String) -> Option<Marker> {
        if self.ended.is_some() {
            return self.ended;
        }
        self.held.push_str(piece);
        let passed = self.scan(out, Partial::Hold);
        self.held.drain(..passed);
        self.ended
    }

    /// Whether a marker has come.
    pub(super) fn ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends the answer: appends what was held back, unless it is most of a control token.
    pub(super) fn finish(&mut self, out: &mut String) {
        if self.ended.is_some() {
            return;
        }
        self.scan(out, Partial::Judge);
        self.held.clear();
    }

    /// Appends the text before the first marker to `out`; returns how many bytes are done with.
    fn scan(&mut self, out: &mut String, partial: Partial) -> usize {
        let bytes = self.held.as_bytes();
        for at in (0..bytes.len()).filter(|&at| self.begins[usize::from(bytes[at])]) {
            let rest = &bytes[at..];
            let mut most: Option<(&str, Marker)> = None;
            for (text, marker) in &self.markers {
                if rest.starts_with(text.as_bytes()) {
                    out.push_str(&self.held[..at]);
                    self.ended = Some(*marker);
                    return bytes.len();
                }
                if text.as_bytes().starts_with(rest)
                    && most.is_none_or(|(longest, _)| text.len() < longest.len())
                {
                    most = Some((text, *marker));
                }
            }
            match (most, partial) {
                (Some(_), Partial::Hold) => {
                    out.push_str(&self.held[..at]);
                    return at;
                }
                (Some((text, Marker::Control)), Partial::Judge) if rest.len() * 2 > text.len() => {
                    out.push_str(&self.held[..at]);
                    return bytes.len();
                }
                (Some(_), Partial::Judge) | (None, _) => {}
            }
        }
        out.push_str(&self.held);
        bytes.len()
    }
}

/// What to do with the beginning of a marker at the end of what is known.
#[derive(Clone, Copy)]
enum Partial {
    /// More may come.
    Hold,
    /// Nothing more comes.
    Judge,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTROL: [&str; 4] = ["<|fim_middle|>", "<|endoftext|>", " <EOT>", "<EOT>"];
    const STOP: [&str; 3] = ["\n\n", "</s>", "ab"];

    fn filtered<S: AsRef<str>>(pieces: &[S]) -> (String, Option<Marker>) {
        let mut filter = StopFilter::new(CONTROL, STOP);
        let mut out = String::new();
        for piece in pieces {
            filter.push(piece.as_ref(), &mut out);
        }
        filter.finish(&mut out);
        (out, filter.ended)
    }

    #[test]
    fn text_ends_before_the_first_marker() {
        let cases = [
            ("x = 1", "x = 1", None),
            ("x<|endoftext|>y", "x", Some(Marker::Control)),
            ("x <EOT>", "x", Some(Marker::Control)),
            ("x\n\ny", "x", Some(Marker::Stop)),
            ("a\nb\nc", "a\nb\nc", None),
            ("a <| b", "a <| b", None),
            ("<|endoftext|>", "", Some(Marker::Control)),
            ("é<|fim_middle|>", "é", Some(Marker::Control)),
        ];
        for (text, expected, ended) in cases {
            assert_eq!(filtered(&[text]), (expected.to_owned(), ended), "{text:?}");
        }
    }

    #[test]
    fn most_of_a_token_at_the_end_is_dropped_and_a_little_is_kept() {
        for (text, expected) in [
            ("x<|fim_mid", "x"),
            ("x <", "x <"),
            ("x<|", "x<|"),
            ("x<|endofte", "x"),
            ("x\n", "x\n"),
        ] {
            assert_eq!(filtered(&[text]), (expected.to_owned(), None), "{text:?}");
        }
    }

    #[test]
    fn text_is_passed_on_as_soon_as_it_is_certain() {
        let mut filter = StopFilter::new(CONTROL, STOP);
        let mut out = String::new();
        let mut seen = Vec::new();
        for piece in ["foo", "(<|", "x", "\n", "y", "\n"] {
            filter.push(piece, &mut out);
            seen.push(out.clone());
        }
        assert_eq!(
            seen,
            [
                "foo",
                "foo(",
                "foo(<|x",
                "foo(<|x",
                "foo(<|x\ny",
                "foo(<|x\ny"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text_and_no_marker_passes(
            pieces in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(CONTROL.to_vec()).prop_map(str::to_owned),
                    proptest::sample::select(vec!["<", "<|", "|>", "\n", " ", "<E", "a", "b", "é", "<|fim", "OT>"])
                        .prop_map(str::to_owned),
                ],
                0..16,
            ),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        ) {
            let text = pieces.concat();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(chars.len());
            let mut from = 0;
            let mut split = Vec::new();
            for cut in cuts {
                split.push(chars[from..cut].iter().collect::<String>());
                from = cut;
            }
            let whole = filtered(&[&text]);
            prop_assert_eq!(&filtered(&split), &whole);
            prop_assert!(text.starts_with(&whole.0));
            for marker in CONTROL.iter().chain(&STOP) {
                prop_assert!(!whole.0.contains(marker));
            }
        }
    }
}
