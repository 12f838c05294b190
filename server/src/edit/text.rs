//! A file as lines: what edits are matched on, with the way back to the exact bytes.
//!
//! Holds: bytes of lines that no [`Splice`] names come out as they went in, whatever their
//! encoding and line ends; text that the file's encoding cannot express is refused, never
//! replaced. Lines are what editors call lines: form feeds and Unicode separators do not end one.
//! Not here: where an edit belongs (`locate`), what changed between two texts (`merge`).

use std::ops::Range;

use encoding_rs::WINDOWS_1252;
use memchr::{memchr_iter, memchr2_iter};

/// Largest file that is edited, in bytes.
pub const MAX_FILE: usize = 64 << 20;

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Eol {
    Lf,
    CrLf,
    Cr,
}

impl Eol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// Which line ends a text is split at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaks {
    /// `\n` and `\r\n`.
    Lf,
    /// Also a carriage return that stands alone.
    LfOrCr,
}

/// How the bytes of a file spell its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8 {
        bom: bool,
    },
    Utf16Le {
        bom: bool,
    },
    Utf16Be {
        bom: bool,
    },
    /// Neither: lines that are not UTF-8 are read as windows-1252, which knows every byte.
    Legacy {
        new_text: LegacyText,
    },
}

/// How text beyond ASCII is written into a file that is not UTF-8 throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyText {
    Windows1252,
    /// Some lines are UTF-8 and some are not: any choice could be wrong.
    Undecided,
}

/// Why bytes cannot be edited as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("is larger than {} MiB", MAX_FILE >> 20)]
    TooLarge,
    #[error("looks like UTF-16 or UTF-32 but is not valid")]
    BrokenUnicode,
}

/// New text has a character that the file's encoding does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file's encoding cannot express {0:?}")]
pub struct Inexpressible(pub String);

/// A decoded file. Lines are counted from zero and hold no line end.
#[derive(Debug, Clone)]
pub struct Text {
    bytes: Vec<u8>,
    encoding: Encoding,
    breaks: Breaks,
    /// The lines, each that is ended with `\n` in place of its own line end.
    content: String,
    lines: Vec<Line>,
    eol: Eol,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// Byte offsets into `content`, without the line end.
    start: usize,
    end: usize,
    /// Where the line ends in `bytes`, line end included.
    raw_end: usize,
    eol: Option<Eol>,
}

/// New lines in place of a range of old ones; the range may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    pub lines: Range<usize>,
    pub new: Vec<NewLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    pub text: String,
    pub end: LineEnd,
}

/// How a new line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// As most lines of the file; as the last line of the file, the way the file ended before.
    Usual,
    /// As old line number so-and-so.
    Of(usize),
    /// With a line end even as the last line of the file.
    Ended,
    /// Without a line end, if it is the last line of the file.
    Open,
}

/// Ranges of whole lines that changed, before and after. Lines differ if their bytes do, so that
/// a line end given to a last line that had none counts as a change of that line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    pub before: Range<usize>,
    pub after: Range<usize>,
}

impl Text {
    /// Decodes a file.
    ///
    /// A byte-order mark decides the encoding; without one, text that is valid UTF-8 is UTF-8,
    /// and one whose every second byte is zero is UTF-16. O(bytes).
    ///
    /// # Errors
    /// [`NotText`] when it is too large, or broken UTF-16, or UTF-32.
    pub fn decode(bytes: Vec<u8>, breaks: Breaks) -> Result<Self, NotText> {
        if bytes.len() > MAX_FILE {
            return Err(NotText::TooLarge);
        }
        let encoding = sniff(&bytes)?;
        let mut text = Self {
            bytes,
            encoding,
            breaks,
            content: String::new(),
            lines: Vec::new(),
            eol: Eol::Lf,
        };
        match encoding {
            Encoding::Utf8 { bom } => text.split_utf8(if bom { 3 } else { 0 }),
            Encoding::Utf16Le { bom } => text.split_utf16(bom, u16::from_le_bytes)?,
            Encoding::Utf16Be { bom } => text.split_utf16(bom, u16::from_be_bytes)?,
            Encoding::Legacy { .. } => text.split_legacy(),
        }
        text.eol = text.usual_eol();
        Ok(text)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The byte-order mark, which is in front of the lines and part of none.
    pub fn bom(&self) -> &[u8] {
        &self.bytes[..self.raw_start(0)]
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The decoded text with `\n` for every line end and no byte-order mark.
    pub fn content(&self) -> &str {
        &self.content
    }

    pub fn n_lines(&self) -> usize {
        self.lines.len()
    }

    pub fn line(&self, line_idx: usize) -> &str {
        let line = self.lines[line_idx];
        &self.content[line.start..line.end]
    }

    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.lines.iter().map(|l| &self.content[l.start..l.end])
    }

    /// Byte offset in [`content`](Self::content) at which a line starts; for the line after the
    /// last one, the length.
    pub fn line_start(&self, line_idx: usize) -> usize {
        self.lines
            .get(line_idx)
            .map_or(self.content.len(), |l| l.start)
    }

    /// The line that byte `offset` of [`content`](Self::content) is on; its line end is part of it.
    pub fn line_at(&self, offset: usize) -> usize {
        self.lines.partition_point(|l| l.end < offset)
    }

    /// The bytes of whole lines, line ends included.
    pub fn raw(&self, lines: Range<usize>) -> &[u8] {
        let start = self.raw_start(lines.start);
        let end = if lines.is_empty() {
            start
        } else {
            self.lines[lines.end - 1].raw_end
        };
        &self.bytes[start..end]
    }

    /// Each line as its bytes, line end included.
    pub fn raw_lines(&self) -> Vec<&[u8]> {
        (0..self.n_lines()).map(|i| self.raw(i..i + 1)).collect()
    }

    /// Whether the last line has a line end. True for a file without lines.
    pub fn is_ended(&self) -> bool {
        self.lines.last().is_none_or(|l| l.eol.is_some())
    }

    /// The line end most lines have; the first one seen among equals, `\n` where there is none.
    pub fn eol(&self) -> Eol {
        self.eol
    }

    /// Which line ends there are: `\n`, `\r\n`, `\r`.
    pub fn eols(&self) -> [bool; 3] {
        let mut eols = [false; 3];
        for eol in self.lines.iter().filter_map(|l| l.eol) {
            eols[eol as usize] = true;
        }
        eols
    }

    /// Whether the text has a carriage return that stands alone and ends no line.
    pub fn has_lone_cr(&self) -> bool {
        self.breaks == Breaks::Lf && memchr::memchr(b'\r', self.content.as_bytes()).is_some()
    }

    /// Returns the bytes with `splices` done, and which lines changed.
    ///
    /// `splices` are in order, do not overlap and lie within the text. O(bytes).
    ///
    /// # Errors
    /// [`Inexpressible`] when the file's encoding lacks a character of a new line.
    pub fn apply(&self, splices: &[Splice]) -> Result<(Vec<u8>, Vec<Change>), Inexpressible> {
        let mut out = Vec::with_capacity(self.bytes.len() + 256);
        out.extend_from_slice(self.bom());
        let mut changes: Vec<Change> = Vec::new();
        let (mut line_idx, mut n_after) = (0, 0);
        for (splice_idx, splice) in splices.iter().enumerate() {
            debug_assert!(splice.lines.start >= line_idx && splice.lines.end <= self.n_lines());
            out.extend_from_slice(self.raw(line_idx..splice.lines.start));
            n_after += splice.lines.start - line_idx;
            let mut change = Change {
                before: splice.lines.clone(),
                after: n_after..n_after + splice.new.len(),
            };
            let kept_before = splice.lines.start > 0 && line_idx < splice.lines.start;
            if kept_before
                && !splice.new.is_empty()
                && self.lines[splice.lines.start - 1].eol.is_none()
            {
                out.extend_from_slice(&self.encode(self.eol.as_str())?);
                change.before.start -= 1;
                change.after.start -= 1;
            }
            let is_last = |new_idx: usize| {
                new_idx + 1 == splice.new.len()
                    && splice.lines.end == self.n_lines()
                    && splices[splice_idx + 1..].iter().all(|s| s.new.is_empty())
            };
            for (new_idx, new) in splice.new.iter().enumerate() {
                out.extend_from_slice(&self.encode(&new.text)?);
                if let Some(eol) = self.eol_of(new.end, is_last(new_idx)) {
                    out.extend_from_slice(&self.encode(eol.as_str())?);
                }
            }
            n_after += splice.new.len();
            line_idx = splice.lines.end;
            match changes.last_mut() {
                Some(last) if last.before.end >= change.before.start => {
                    last.before.end = change.before.end;
                    last.after.end = change.after.end;
                }
                _ => changes.push(change),
            }
        }
        out.extend_from_slice(self.raw(line_idx..self.n_lines()));
        Ok((out, changes))
    }

    fn eol_of(&self, end: LineEnd, is_last: bool) -> Option<Eol> {
        let wanted = match end {
            LineEnd::Usual if is_last && !self.is_ended() => None,
            LineEnd::Open => None,
            LineEnd::Of(line_idx) => self.lines[line_idx].eol,
            LineEnd::Usual | LineEnd::Ended => Some(self.eol),
        };
        if is_last {
            wanted
        } else {
            Some(wanted.unwrap_or(self.eol))
        }
    }

    /// Spells `text` in the file's encoding.
    fn encode(&self, text: &str) -> Result<Vec<u8>, Inexpressible> {
        match self.encoding {
            Encoding::Utf8 { .. } => Ok(text.as_bytes().to_vec()),
            Encoding::Utf16Le { .. } => {
                Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
            }
            Encoding::Utf16Be { .. } => {
                Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect())
            }
            Encoding::Legacy { .. } if text.is_ascii() => Ok(text.as_bytes().to_vec()),
            Encoding::Legacy {
                new_text: LegacyText::Windows1252,
            } => match WINDOWS_1252.encode(text) {
                (bytes, _, false) => Ok(bytes.into_owned()),
                (_, _, true) => Err(Inexpressible(text.to_owned())),
            },
            Encoding::Legacy {
                new_text: LegacyText::Undecided,
            } => Err(Inexpressible(text.to_owned())),
        }
    }

    fn raw_start(&self, line_idx: usize) -> usize {
        match line_idx.checked_sub(1) {
            Some(previous) => self.lines[previous].raw_end,
            None => match self.encoding {
                Encoding::Utf8 { bom: true } => 3,
                Encoding::Utf16Le { bom: true } | Encoding::Utf16Be { bom: true } => 2,
                Encoding::Utf8 { .. }
                | Encoding::Utf16Le { .. }
                | Encoding::Utf16Be { .. }
                | Encoding::Legacy { .. } => 0,
            },
        }
    }

    fn split_utf8(&mut self, start: usize) {
        let bytes = std::mem::take(&mut self.bytes);
        let text = std::str::from_utf8(&bytes[start..]).expect("because `sniff` checked it");
        self.content.reserve(text.len());
        for (range, eol) in break_lines(text.as_bytes(), self.breaks) {
            self.push_line(&text[range.clone()], eol, start + range.end + eol_len(eol));
        }
        self.bytes = bytes;
    }

    fn split_utf16(&mut self, bom: bool, unit: fn([u8; 2]) -> u16) -> Result<(), NotText> {
        let start = if bom { 2 } else { 0 };
        let units: Vec<u16> = self.bytes[start..]
            .chunks_exact(2)
            .map(|p| unit([p[0], p[1]]))
            .collect();
        let text = String::from_utf16(&units).map_err(|_| NotText::BrokenUnicode)?;
        let mut raw_end = start;
        for (range, eol) in break_lines(text.as_bytes(), self.breaks) {
            let line = &text[range];
            raw_end += 2 * (line.encode_utf16().count() + eol_len(eol));
            self.push_line(line, eol, raw_end);
        }
        Ok(())
    }

    fn split_legacy(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        for (range, eol) in break_lines(&bytes, self.breaks) {
            let raw = &bytes[range.clone()];
            let raw_end = range.end + eol_len(eol);
            match std::str::from_utf8(raw) {
                Ok(line) => self.push_line(line, eol, raw_end),
                Err(_) => {
                    let (line, _) = WINDOWS_1252.decode_without_bom_handling(raw);
                    self.push_line(&line, eol, raw_end);
                }
            }
        }
        self.bytes = bytes;
    }

    fn push_line(&mut self, line: &str, eol: Option<Eol>, raw_end: usize) {
        let start = self.content.len();
        self.content.push_str(line);
        self.lines.push(Line {
            start,
            end: self.content.len(),
            raw_end,
            eol,
        });
        if eol.is_some() {
            self.content.push('\n');
        }
    }

    fn usual_eol(&self) -> Eol {
        let mut counts = [(Eol::Lf, 0), (Eol::CrLf, 0), (Eol::Cr, 0)];
        for eol in self.lines.iter().filter_map(|l| l.eol) {
            counts[eol as usize].1 += 1;
        }
        let most = counts.iter().map(|&(_, n)| n).max().unwrap_or_default();
        self.lines
            .iter()
            .filter_map(|l| l.eol)
            .find(|&eol| counts[eol as usize].1 == most)
            .unwrap_or(Eol::Lf)
    }
}

impl NewLine {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            end: LineEnd::Usual,
        }
    }
}

fn eol_len(eol: Option<Eol>) -> usize {
    eol.map_or(0, |e| e.as_str().len())
}

/// Yields each line as its range without the line end, and what ends it.
fn break_lines(bytes: &[u8], breaks: Breaks) -> Vec<(Range<usize>, Option<Eol>)> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut push = |at: usize, start: &mut usize| match bytes[at] {
        b'\n' if at > *start && bytes[at - 1] == b'\r' && breaks == Breaks::Lf => {
            lines.push((*start..at - 1, Some(Eol::CrLf)));
            *start = at + 1;
        }
        b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
            lines.push((*start..at, Some(Eol::CrLf)));
            *start = at + 2;
        }
        // The second half of a pair that is done already.
        b'\n' if at < *start => {}
        end => {
            lines.push((
                *start..at,
                Some(if end == b'\r' { Eol::Cr } else { Eol::Lf }),
            ));
            *start = at + 1;
        }
    };
    match breaks {
        Breaks::Lf => memchr_iter(b'\n', bytes).for_each(|at| push(at, &mut start)),
        Breaks::LfOrCr => memchr2_iter(b'\n', b'\r', bytes).for_each(|at| push(at, &mut start)),
    }
    if start < bytes.len() {
        lines.push((start..bytes.len(), None));
    }
    lines
}

fn sniff(bytes: &[u8]) -> Result<Encoding, NotText> {
    if bytes.starts_with(&[0xFF, 0xFE, 0, 0]) || bytes.starts_with(&[0, 0, 0xFE, 0xFF]) {
        return Err(NotText::BrokenUnicode);
    }
    let utf16 = match bytes {
        [0xFF, 0xFE, ..] => Some(Encoding::Utf16Le { bom: true }),
        [0xFE, 0xFF, ..] => Some(Encoding::Utf16Be { bom: true }),
        _ => None,
    };
    if let Some(encoding) = utf16 {
        return if bytes.len().is_multiple_of(2) {
            Ok(encoding)
        } else {
            Err(NotText::BrokenUnicode)
        };
    }
    if let Some(encoding) = unmarked_utf16(bytes) {
        return Ok(encoding);
    }
    if std::str::from_utf8(bytes).is_ok() {
        return Ok(Encoding::Utf8 {
            bom: bytes.starts_with(&[0xEF, 0xBB, 0xBF]),
        });
    }
    let has_utf8_line = bytes
        .split(|&b| b == b'\n')
        .any(|line| !line.is_ascii() && std::str::from_utf8(line).is_ok());
    let new_text = if has_utf8_line {
        LegacyText::Undecided
    } else {
        LegacyText::Windows1252
    };
    Ok(Encoding::Legacy { new_text })
}

/// UTF-16 without a mark: mostly ASCII, so that nearly every second byte is zero and no other is.
fn unmarked_utf16(bytes: &[u8]) -> Option<Encoding> {
    let head = &bytes[..bytes.len().min(4096)];
    if head.len() < 4 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let zeros = |offset: usize| {
        head.iter()
            .skip(offset)
            .step_by(2)
            .filter(|&&b| b == 0)
            .count()
    };
    let pairs = head.len() / 2;
    match (zeros(0), zeros(1)) {
        (0, high) if high * 10 >= pairs * 9 => Some(Encoding::Utf16Le { bom: false }),
        (low, 0) if low * 10 >= pairs * 9 => Some(Encoding::Utf16Be { bom: false }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
