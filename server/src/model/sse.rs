//! From bytes to events: server-sent events, and JSON lines, the two framings models stream in.
//!
//! Holds: however the bytes are split, the events are the same; a line or an event longer than
//! [`LONGEST`] is an error, so memory is bounded; nothing is lost when the last blank line is
//! missing. Not here: what the events mean (`model::dialect`), when the answer ends.
//!
//! Our own because the crates for it (eventsource-stream, sse-stream) hold lines of any length,
//! drop an event that the end of the stream completes, and know only one of the two framings.

/// Longest line and longest event, in bytes. A piece of a completion takes a few hundred; the
/// last event of llama.cpp repeats the prompt.
pub(crate) const LONGEST: usize = 1 << 20;

/// How a stream is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `text/event-stream`, as in the HTML standard, section 9.2.
    Events,
    /// One JSON value per line.
    Lines,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// The `event:` field; empty when there was none, and for lines.
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

/// A line or event was longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Collects bytes until they make events.
#[derive(Debug)]
pub(crate) struct Decoder {
    framing: Framing,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_return: bool,
    /// Nothing but a byte order mark may have come so far.
    at_start: bool,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_return: false,
            at_start: true,
        }
    }

    /// Takes the next bytes and appends the events they complete to `events`. O(bytes).
    ///
    /// # Errors
    /// [`TooLong`]; the decoder is of no use after it.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|&byte| self.ends_line(byte));
            let taken = end.unwrap_or(bytes.len());
            if self.line.len() + taken > LONGEST {
                return Err(TooLong);
            }
            self.line.extend_from_slice(&bytes[..taken]);
            match end {
                None => return Ok(()),
                Some(end) => {
                    self.after_return = bytes[end] == b'\r';
                    bytes = &bytes[end + 1..];
                    self.end_line(events)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the stream: what is left counts as complete.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(crate) fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        self.dispatch(events);
        Ok(())
    }

    /// JSON lines end with a line feed alone: a carriage return is white space to JSON.
    fn ends_line(&self, byte: u8) -> bool {
        byte == b'\n' || (byte == b'\r' && self.framing == Framing::Events)
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        match self.framing {
            Framing::Lines => {
                let data = line.trim_ascii();
                if !data.is_empty() {
                    events.push(Event {
                        name: String::new(),
                        data: data.to_vec(),
                    });
                }
            }
            Framing::Events if line.is_empty() => self.dispatch(events),
            Framing::Events => self.field(&line)?,
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), TooLong> {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => self.add_data(value),
            // llama.cpp reports errors in a field of this name, which the standard ignores.
            b"error" => {
                self.event.name = "error".to_owned();
                self.add_data(value)
            }
            b"event" => {
                self.event.name = String::from_utf8_lossy(value).into_owned();
                Ok(())
            }
            // Comments have no name; `id` and `retry` are for reconnecting, which we never do.
            _ => Ok(()),
        }
    }

    fn add_data(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.event.data.len() + value.len() >= LONGEST {
            return Err(TooLong);
        }
        if self.has_data {
            self.event.data.push(b'\n');
        }
        self.has_data = true;
        self.event.data.extend_from_slice(value);
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `chunks` and renders the events, one a line, as `name|data`.
    fn decode(framing: Framing, chunks: &[&[u8]]) -> Result<Vec<String>, TooLong> {
        let mut decoder = Decoder::new(framing);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, &mut events)?;
        }
        decoder.finish(&mut events)?;
        let shown =
            |event: Event| format!("{}|{}", event.name, String::from_utf8_lossy(&event.data));
        Ok(events.into_iter().map(shown).collect())
    }

    #[test]
    fn streams_of_all_servers_are_understood() {
        let cases: [(&str, &str, &[&str]); 11] = [
            ("line feeds", "data: a\n\ndata: b\n\n", &["|a", "|b"]),
            (
                "carriage returns and line feeds",
                "data: a\r\n\r\ndata: b\r\n\r\n",
                &["|a", "|b"],
            ),
            ("carriage returns", "data: a\r\rdata: b\r\r", &["|a", "|b"]),
            ("no space after the colon", "data:a\n\n", &["|a"]),
            ("only one space is taken", "data:  a\n\n", &["| a"]),
            ("several data lines", "data: a\ndata: b\n\n", &["|a\nb"]),
            (
                "comments and unknown fields",
                ": ping\nid: 7\nretry: 10\nx\ndata: a\n\n",
                &["|a"],
            ),
            ("a byte order mark", "\u{feff}data: a\n\n", &["|a"]),
            (
                "names",
                "event: message_stop\ndata: {}\n\n",
                &["message_stop|{}"],
            ),
            (
                "an error field",
                "error: {\"code\":500}\n\n",
                &["error|{\"code\":500}"],
            ),
            (
                "no blank line at the end",
                "data: a\n\ndata: b",
                &["|a", "|b"],
            ),
        ];
        for (what, stream, expected) in cases {
            assert_eq!(
                decode(Framing::Events, &[stream.as_bytes()]).unwrap(),
                expected,
                "{what}"
            );
        }
        let lines = "{\"a\":1}\r\n\n  \n{\"b\":2}";
        assert_eq!(
            decode(Framing::Lines, &[lines.as_bytes()]).unwrap(),
            ["|{\"a\":1}", "|{\"b\":2}"]
        );
    }

    #[test]
    fn a_line_or_event_without_end_is_refused_in_bounded_memory() {
        let megabyte = vec![b'x'; 1 << 20];
        for start in ["data: ", ": ", ""] {
            for framing in [Framing::Events, Framing::Lines] {
                assert_eq!(
                    decode(framing, &[start.as_bytes(), &megabyte, b"x"]),
                    Err(TooLong)
                );
            }
        }
        let line = [b"data: ".as_slice(), &vec![b'y'; 1 << 16], b"\n"].concat();
        assert_eq!(
            decode(Framing::Events, &vec![line.as_slice(); 20]),
            Err(TooLong)
        );
    }

    /// Bytes that are often, but not always, a stream.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"data: {\"a\":\"\xc3\xa9\"}".to_vec()),
            Just(b"data:".to_vec()),
            Just(b"event: e".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(b": c".to_vec()),
            Just(b"\xEF\xBB\xBF".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            stream in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let mut from = 0;
            let mut chunks = Vec::new();
            for cut in cuts {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            for framing in [Framing::Events, Framing::Lines] {
                prop_assert_eq!(decode(framing, &chunks), decode(framing, &[&stream]));
            }
        }
    }
}
