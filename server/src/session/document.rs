//! One text document as the editor has it: a rope, a version, and LSP positions on it.
//!
//! Holds: positions and ranges that do not exist are moved to the nearest place that does, as the
//! protocol asks; no input makes a document panic. Offsets are bytes of UTF-8 throughout.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ropey::Rope;

/// How the client counts columns, settled at `initialize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PositionEncoding {
    Utf8,
    #[default]
    Utf16,
    Utf32,
}

/// A place in a document as the protocol names it: zero-based line, column in the negotiated
/// encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A change as the client sends it: new text for a range, or for the whole document.
#[derive(Debug, Clone)]
pub struct Change {
    pub range: Option<Range<Position>>,
    pub text: String,
}

/// A change as it was applied: `removed` bytes at `start` gave way to `inserted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub start: usize,
    pub removed: usize,
    pub inserted: String,
    /// Line of `start`, and by how many lines the text below it moved.
    pub line: usize,
    pub line_delta: isize,
}

/// An open document. Cloning is cheap: the text is shared until changed.
#[derive(Debug, Clone)]
pub struct Document {
    /// As the client spells it; documents are told apart by this text alone.
    pub uri: Arc<str>,
    /// The file behind it; `None` for untitled buffers and other schemes.
    pub path: Option<Arc<Path>>,
    /// The client's language id, in lower case.
    pub language: Arc<str>,
    pub version: i32,
    pub text: Rope,
}

impl Document {
    pub fn new(uri: &str, language: &str, version: i32, text: &str) -> Self {
        Self {
            uri: uri.into(),
            path: path_of(uri).map(Into::into),
            language: language.to_ascii_lowercase().into(),
            version,
            text: Rope::from_str(text),
        }
    }

    /// Returns the byte offset of `position`; past the end of a line its end, past the last line
    /// the end of the text, inside a character its start.
    pub fn offset(&self, position: Position, encoding: PositionEncoding) -> usize {
        let Ok(line_idx) = usize::try_from(position.line) else {
            return self.text.len_bytes();
        };
        if line_idx >= self.text.len_lines() {
            return self.text.len_bytes();
        }
        let start = self.text.line_to_byte(line_idx);
        let end = start + self.line_len(line_idx);
        let column = position.column as usize;
        match encoding {
            PositionEncoding::Utf8 => {
                self.floor_char_boundary((start.saturating_add(column)).min(end))
            }
            PositionEncoding::Utf16 => {
                let first = self.text.byte_to_char(start);
                let units = self.text.char_to_utf16_cu(first).saturating_add(column);
                let last = self.text.char_to_utf16_cu(self.text.byte_to_char(end));
                self.text
                    .char_to_byte(self.text.utf16_cu_to_char(units.min(last)))
            }
            PositionEncoding::Utf32 => {
                let first = self.text.byte_to_char(start);
                let last = self.text.byte_to_char(end);
                self.text
                    .char_to_byte(first.saturating_add(column).min(last))
            }
        }
    }

    /// Returns the position of byte `offset`, which is clamped into the text.
    pub fn position(&self, offset: usize, encoding: PositionEncoding) -> Position {
        let offset = self.floor_char_boundary(offset.min(self.text.len_bytes()));
        let line_idx = self.text.byte_to_line(offset);
        let start = self.text.line_to_byte(line_idx);
        let column = match encoding {
            PositionEncoding::Utf8 => offset - start,
            PositionEncoding::Utf16 => {
                let cu = |byte| self.text.char_to_utf16_cu(self.text.byte_to_char(byte));
                cu(offset) - cu(start)
            }
            PositionEncoding::Utf32 => {
                self.text.byte_to_char(offset) - self.text.byte_to_char(start)
            }
        };
        Position {
            line: to_u32(line_idx),
            column: to_u32(column),
        }
    }

    /// Applies one change of the client and returns what it did to the text.
    ///
    /// A whole-document change is reduced to the part that differs, so that full-text clients get
    /// the same tracking of suggestions and edits as incremental ones; of any other the start that
    /// stays the same is left out, as suggestions are put in from the start of their line.
    pub fn apply(&mut self, change: &Change, encoding: PositionEncoding) -> Edit {
        match &change.range {
            Some(range) => {
                let start = self.offset(range.start, encoding);
                let end = self.offset(range.end, encoding).max(start);
                self.replace(start..end, &change.text)
            }
            None => {
                let (range, inserted) = self.difference(&change.text);
                self.replace(range, inserted)
            }
        }
    }

    /// Returns the text of bytes `range`, clamped to the text and to whole characters.
    pub fn slice(&self, range: Range<usize>) -> String {
        let end = self.floor_char_boundary(range.end.min(self.text.len_bytes()));
        let start = self.floor_char_boundary(range.start.min(end));
        self.text.byte_slice(start..end).to_string()
    }

    /// Length in bytes of a line without its terminator.
    pub fn line_len(&self, line_idx: usize) -> usize {
        let line = self.text.line(line_idx);
        let mut len = line.len_bytes();
        if len > 0 && line.byte(len - 1) == b'\n' {
            len -= 1;
        }
        if len > 0 && line.byte(len - 1) == b'\r' {
            len -= 1;
        }
        len
    }

    /// The line terminator in use, by the first line.
    pub fn line_ending(&self) -> &'static str {
        let first = self.text.line(0);
        if first.len_bytes() >= 2 && first.byte(first.len_bytes() - 2) == b'\r' {
            "\r\n"
        } else {
            "\n"
        }
    }

    fn replace(&mut self, range: Range<usize>, text: &str) -> Edit {
        let same = self.common_start(range.clone(), text);
        let (range, text) = (range.start + same..range.end, &text[same..]);
        let lines_before = self.text.len_lines();
        let chars = self.text.byte_to_char(range.start)..self.text.byte_to_char(range.end);
        let line = self.text.byte_to_line(range.start);
        let at = chars.start;
        self.text.remove(chars);
        self.text.insert(at, text);
        Edit {
            start: range.start,
            removed: range.len(),
            inserted: text.to_owned(),
            line,
            line_delta: self.text.len_lines() as isize - lines_before as isize,
        }
    }

    /// Bytes of whole characters that the text of `range` and `new` both begin with; a `\r\n` is
    /// not taken apart.
    fn common_start(&self, range: Range<usize>, new: &str) -> usize {
        let old = self.text.byte_slice(range);
        let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b);
        let len: usize = same.map(|(c, _)| c.len_utf8()).sum();
        len - usize::from(new[..len].ends_with('\r'))
    }

    /// The smallest range whose replacement turns this text into `new`, and the replacement.
    fn difference<'a>(&self, new: &'a str) -> (Range<usize>, &'a str) {
        let old_len = self.text.len_bytes();
        let mut prefix = 0;
        'prefix: for chunk in self.text.chunks() {
            for (a, b) in chunk.bytes().zip(&new.as_bytes()[prefix.min(new.len())..]) {
                if a != *b {
                    break 'prefix;
                }
                prefix += 1;
            }
            if prefix >= new.len() {
                break;
            }
        }
        while !new.is_char_boundary(prefix) || self.floor_char_boundary(prefix) != prefix {
            prefix -= 1;
        }
        let longest = (old_len - prefix).min(new.len() - prefix);
        let mut suffix = 0;
        let old_bytes = self.text.bytes_at(old_len).reversed();
        for (a, b) in old_bytes.zip(new.bytes().rev()).take(longest) {
            if a != b {
                break;
            }
            suffix += 1;
        }
        while !new.is_char_boundary(new.len() - suffix)
            || self.floor_char_boundary(old_len - suffix) != old_len - suffix
        {
            suffix -= 1;
        }
        (prefix..old_len - suffix, &new[prefix..new.len() - suffix])
    }

    fn floor_char_boundary(&self, offset: usize) -> usize {
        self.text.char_to_byte(self.text.byte_to_char(offset))
    }
}

/// Returns `text` with lines that end with `\n`, whatever they end with in the document.
pub fn with_lf(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        text.replace("\r\n", "\n").into()
    } else {
        text.into()
    }
}

/// Returns the file a `file:` URI names, percent-decoded.
pub fn path_of(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    // An authority (`file://host/…`) other than localhost is not a local file.
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return None;
    }
    let bytes = percent_encoding::percent_decode_str(path);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        Some(std::ffi::OsString::from_vec(bytes.collect()).into())
    }
    #[cfg(not(unix))]
    {
        let text = bytes.decode_utf8().ok()?;
        // `/c:/x` names `c:/x`.
        let text = text
            .strip_prefix('/')
            .filter(|t| t.as_bytes().get(1) == Some(&b':'))
            .unwrap_or(&text);
        Some(text.into())
    }
}

/// Returns the `file:` URI of an absolute path.
pub fn uri_of(path: &Path) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let bytes = path.as_os_str().as_encoded_bytes();
    let slash = if bytes.first() == Some(&b'/') {
        ""
    } else {
        "/"
    };
    format!("file://{slash}{}", percent_encode(bytes, KEPT))
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
