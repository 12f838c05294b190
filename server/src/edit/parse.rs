//! Reading an answer: from a model's text, piece by piece, to the edits it asks for.
//!
//! Holds: how the text is cut into pieces changes nothing. An answer that stops inside an edit is
//! refused, never read as the part that arrived. Work is linear in the text, which is bounded.
//! Not here: files. What a path or an ambiguous line means is settled by `plan` and `locate`.

mod apply_patch;
mod block;
mod fence;
mod heading;
mod json;
mod search_replace;
mod unified;
mod whole_file;

pub use block::{Block, BlockLine, LineKind};

use super::{Kind, Refusal};

/// Longest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;
/// Most edits of one answer.
pub const MAX_EDITS: usize = 10_000;

/// How edits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum Format {
    /// Whichever of the others the answer is written in.
    #[default]
    Auto,
    /// Blocks of old and new text between markers (`<<<<<<< SEARCH`, `------- SEARCH`, `---FIND`).
    SearchReplace,
    /// Unified diffs, of git or by hand.
    UnifiedDiff,
    /// `*** Begin Patch` … `*** End Patch`.
    ApplyPatch,
    /// Whole files in fences, each below its path.
    WholeFile,
    /// Arguments of edit tools, as JSON.
    ToolCall,
}

/// The edits of one answer, in the order they were written. All of them are done, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct EditSet {
    /// Never [`Format::Auto`].
    pub format: Format,
    pub edits: Vec<Edit>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The file as the answer names it; `None` where it names none.
    pub path: Option<String>,
    /// The line of the answer it begins on, from one.
    pub line: usize,
    pub op: Op,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Lines that are found by what they are, and changed.
    Lines {
        readings: Vec<Block>,
        hints: Hints,
    },
    /// Text that is found by what it is, within a line or over several.
    Text {
        old: String,
        new: String,
        all: bool,
    },
    /// The lines `first..=last`, from one, give way to `new`.
    Range {
        first: usize,
        last: usize,
        new: String,
    },
    /// A file that is not there yet.
    Create {
        text: String,
        executable: bool,
    },
    /// A file's whole text, whether it is there or not. In a fence the text cannot say whether its
    /// last line is ended.
    Write {
        text: String,
        fenced: bool,
    },
    /// The file goes; where the answer quotes its lines, they must be what it held.
    Delete {
        quoted: Vec<String>,
    },
    Rename {
        to: String,
    },
    Mode {
        executable: bool,
    },
}

/// What an answer says about where a block belongs, beside the block's own lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The line the block begins on, from one.
    pub line: Option<usize>,
    /// Lines that stand above it, outermost first (`@@ class A`).
    pub headings: Vec<String>,
    /// The block reaches the end of the file.
    pub at_end: bool,
    /// The format tells context from changes, so that context may be judged less strictly.
    pub marks_context: bool,
    /// What lines without any old text mean.
    pub bare_insert: BareInsert,
}

/// Where new lines go that come with no line of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BareInsert {
    /// Nowhere: it is an error.
    #[default]
    Refused,
    /// Below the last heading, or at the end of the file.
    BelowHeading,
    /// After the hinted line, if other blocks of the file show that its numbers can be trusted.
    AfterLine,
}

/// Reads a whole answer.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong.
pub fn parse(answer: &str, format: Format) -> Result<EditSet, Refusal> {
    let mut parser = Parser::new(format);
    parser.push(answer);
    parser.finish()
}

/// Reads an answer while it is being written.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    machine: Option<Machine>,
    /// Lines seen while no format is settled.
    lines: Vec<String>,
    /// What arrived of the line that is being written.
    partial: String,
    n_bytes: usize,
    n_lines: usize,
    edits: Vec<Edit>,
    refused: Option<Refusal>,
}

/// The formats that tell while being written what is done.
#[derive(Debug)]
enum Machine {
    SearchReplace(search_replace::Machine),
    Unified(unified::Machine),
    ApplyPatch(apply_patch::Machine),
}

/// A line of the answer and its number, from one.
#[derive(Debug, Clone, Copy)]
struct AnswerLine<'a> {
    text: &'a str,
    number: usize,
    /// False for a last line that the answer does not end.
    ended: bool,
}

impl Parser {
    pub fn new(format: Format) -> Self {
        let machine = match format {
            Format::Auto | Format::WholeFile | Format::ToolCall => None,
            Format::SearchReplace | Format::UnifiedDiff | Format::ApplyPatch => {
                Machine::new(format)
            }
        };
        Self {
            format,
            machine,
            lines: Vec::new(),
            partial: String::new(),
            n_bytes: 0,
            n_lines: 0,
            edits: Vec::new(),
            refused: None,
        }
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, piece: &str) {
        self.n_bytes += piece.len();
        if self.n_bytes > MAX_ANSWER {
            self.refuse(Refusal::new(
                Kind::Other,
                format!(
                    "the answer is longer than {} MiB and is not read",
                    MAX_ANSWER >> 20
                ),
            ));
        }
        if self.refused.is_some() {
            return;
        }
        let mut pieces = piece.split('\n');
        let first = pieces.next().unwrap_or_default();
        self.partial.push_str(first);
        for next in pieces {
            let line = std::mem::replace(&mut self.partial, next.to_owned());
            self.line(line, true);
        }
    }

    /// The edits that are complete so far, for a preview; the answer may yet be refused.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// A [`Refusal`] for the first thing that was wrong.
    pub fn finish(mut self) -> Result<EditSet, Refusal> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(line, false);
        }
        let format = match &mut self.machine {
            _ if self.refused.is_some() => self.format,
            Some(machine) => {
                let format = machine.format();
                if let Err(why) = machine.finish(&mut self.edits) {
                    self.refuse(why);
                }
                format
            }
            None => match self.without_markers() {
                Ok(format) => format,
                Err(why) => {
                    self.refuse(why);
                    self.format
                }
            },
        };
        if let Some(why) = self.refused {
            return Err(why);
        }
        if self.edits.is_empty() {
            return Err(Refusal::new(Kind::NoEdits, "the answer holds no edit"));
        }
        Ok(EditSet {
            format,
            edits: self.edits,
        })
    }

    fn line(&mut self, mut line: String, ended: bool) {
        if self.refused.is_some() {
            return;
        }
        self.n_lines += 1;
        if line.ends_with('\r') {
            line.pop();
        }
        if self.machine.is_none() && self.format == Format::Auto {
            self.settle(&line);
        }
        match &mut self.machine {
            Some(machine) => {
                let line = AnswerLine {
                    text: &line,
                    number: self.n_lines,
                    ended,
                };
                if let Err(why) = machine.line(line, &mut self.edits) {
                    self.refuse(why);
                }
            }
            None => self.lines.push(line),
        }
        if self.edits.len() > MAX_EDITS {
            self.refuse(Refusal::new(
                Kind::Other,
                format!("the answer has more than {MAX_EDITS} edits"),
            ));
        }
    }

    /// Settles the format if `line` is one that only one format has, and reads again what led to it.
    fn settle(&mut self, line: &str) {
        let previous = self.lines.last().map_or("", String::as_str);
        let Some(format) = format_of(line, previous) else {
            return;
        };
        // A tool call may carry any text in its strings.
        if json::may_be_json(&self.lines) {
            return;
        }
        let Some(mut machine) = Machine::new(format) else {
            return;
        };
        for (idx, text) in std::mem::take(&mut self.lines).iter().enumerate() {
            let line = AnswerLine {
                text,
                number: idx + 1,
                ended: true,
            };
            if let Err(why) = machine.line(line, &mut self.edits) {
                self.refuse(why);
            }
        }
        self.machine = Some(machine);
    }

    /// Reads the formats that have no markers of their own.
    fn without_markers(&mut self) -> Result<Format, Refusal> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        if matches!(self.format, Format::Auto | Format::ToolCall)
            && let Some(edits) = json::read(&lines)?
        {
            self.edits = edits;
            return Ok(Format::ToolCall);
        }
        if self.format == Format::ToolCall {
            return Err(Refusal::new(
                Kind::Malformed,
                "the answer is not a tool call in JSON",
            ));
        }
        if let Some(number) = search_replace::stray_marker(&lines) {
            return Err(Refusal::new(
                Kind::Malformed,
                format!("line {number} ends a SEARCH block, but none was begun"),
            ));
        }
        self.edits = whole_file::read(&lines)?;
        if self.edits.is_empty()
            && let Some(edit) = unified::headerless(&lines)
        {
            self.edits.push(edit);
            return Ok(Format::UnifiedDiff);
        }
        Ok(Format::WholeFile)
    }

    fn refuse(&mut self, why: Refusal) {
        self.refused.get_or_insert(why);
    }
}

impl Machine {
    fn new(format: Format) -> Option<Self> {
        match format {
            Format::SearchReplace => Some(Self::SearchReplace(search_replace::Machine::default())),
            Format::UnifiedDiff => Some(Self::Unified(unified::Machine::default())),
            Format::ApplyPatch => Some(Self::ApplyPatch(apply_patch::Machine::default())),
            Format::Auto | Format::WholeFile | Format::ToolCall => None,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::SearchReplace(_) => Format::SearchReplace,
            Self::Unified(_) => Format::UnifiedDiff,
            Self::ApplyPatch(_) => Format::ApplyPatch,
        }
    }

    fn line(&mut self, line: AnswerLine<'_>, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        match self {
            Self::SearchReplace(machine) => machine.line(line, edits),
            Self::Unified(machine) => machine.line(line, edits),
            Self::ApplyPatch(machine) => machine.line(line, edits),
        }
    }

    fn finish(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        match self {
            Self::SearchReplace(machine) => machine.finish(edits),
            Self::Unified(machine) => machine.finish(edits),
            Self::ApplyPatch(machine) => machine.finish(edits),
        }
    }
}

/// Returns the format that alone has such a line, which follows `previous`.
fn format_of(line: &str, previous: &str) -> Option<Format> {
    if apply_patch::is_marker(line) {
        Some(Format::ApplyPatch)
    } else if search_replace::is_opener(line) {
        Some(Format::SearchReplace)
    } else if unified::is_header(line, previous) {
        Some(Format::UnifiedDiff)
    } else {
        None
    }
}

/// Refuses a marker of another format outside an edit: which of the two was meant to be done?
fn refuse_other_format(line: AnswerLine<'_>, previous: &str, own: Format) -> Result<(), Refusal> {
    match format_of(line.text, previous) {
        Some(other) if other != own => Err(Refusal::new(
            Kind::Malformed,
            format!(
                "line {} begins an edit in a second format; write all edits in one",
                line.number
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
