//! Unified diffs: of git, of `diff -u`, and as models write them from memory.
//!
//! Line numbers and counts are hints: models get them wrong more often than right. Where a hunk
//! ends is seen from what follows; counts only help to tell a hunk from prose, and to notice that
//! the answer was cut.

use super::block::{Block, BlockLine, LineKind};
use super::fence::Fence;
use super::{AnswerLine, BareInsert, Edit, Format, Hints, Op, refuse_other_format};
use crate::edit::{Kind, Refusal};

const NO_NEWLINE: &str = "\\ No newline at end of file";
/// Context lines that git puts around changes: a hunk that ends with as many was not cut.
const GIT_CONTEXT: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Machine {
    file: File,
    hunk: Option<Hunk>,
    fence: Option<Fence>,
    previous: String,
    /// The last line was not ended.
    is_open: bool,
}

/// What the headers say about the file the next hunks are for.
#[derive(Debug, Default)]
struct File {
    line: usize,
    /// From `diff --git`; later headers are more exact.
    git: Option<(String, String)>,
    old: Option<Name>,
    new: Option<Name>,
    rename: Option<(String, String)>,
    /// The file mode after the change, and whether that is all that is said about it.
    executable: Option<bool>,
    mode_changed: bool,
    is_new: bool,
    is_deleted: bool,
    n_hunks: usize,
    renamed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    None,
    Path(String),
}

#[derive(Debug)]
struct Hunk {
    line: usize,
    header: Header,
    lines: Vec<BlockLine>,
    n_old: usize,
    n_new: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) old_start: Option<usize>,
    /// Old and new number of lines.
    counts: Option<(usize, usize)>,
    pub(super) section: Option<String>,
}

impl Machine {
    pub(super) fn line(
        &mut self,
        line: AnswerLine<'_>,
        edits: &mut Vec<Edit>,
    ) -> Result<(), Refusal> {
        let previous = std::mem::replace(&mut self.previous, line.text.to_owned());
        self.is_open = !line.ended;
        let Some(hunk) = &mut self.hunk else {
            return self.outside(line, &previous, edits);
        };
        let text = line.text;
        if text.starts_with("@@")
            && let Some(header) = any_header(text)
        {
            let next_file = hunk.take_file_header();
            self.close_hunk(edits)?;
            if let Some((old, new)) = next_file {
                self.close_file(edits);
                self.file = File {
                    line: line.number,
                    ..File::default()
                };
                self.name_file(&old, &new);
            }
            self.hunk = Some(Hunk::new(line.number, header));
            return Ok(());
        }
        if text.starts_with("diff --git ")
            || self.fence.as_ref().is_some_and(|f| f.is_closed_by(text))
        {
            self.close_hunk(edits)?;
            return self.outside(line, &previous, edits);
        }
        if text.starts_with('\\') {
            if let Some(last) = hunk.lines.last_mut() {
                last.open = text == NO_NEWLINE || text.starts_with("\\ No newline");
            }
            return Ok(());
        }
        if hunk.is_complete() && !text.starts_with([' ', '+', '-']) {
            self.close_hunk(edits)?;
            return self.outside(line, &previous, edits);
        }
        hunk.push(body_line(text));
        Ok(())
    }

    pub(super) fn finish(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        if let Some(hunk) = &self.hunk
            && self.fence.is_some()
            && !hunk.is_complete()
        {
            return Err(cut());
        }
        // The counts cannot tell whether all of the last line is there.
        let last = self.hunk.as_ref().and_then(|h| h.lines.last());
        if self.is_open && last.is_some_and(|l| l.kind == LineKind::Added) {
            return Err(cut());
        }
        let n_edits = edits.len();
        let is_short = self.hunk.as_ref().is_some_and(Hunk::is_short);
        self.close_hunk(edits)?;
        if is_short && edits.len() > n_edits {
            match edits.last_mut().map(|e| &mut e.op) {
                Some(Op::Lines { readings, hints }) if !ends_like_git(readings) => {
                    hints.at_end = true;
                }
                Some(Op::Create { .. } | Op::Delete { .. }) => return Err(cut()),
                _ => {}
            }
        }
        self.close_file(edits);
        Ok(())
    }

    fn outside(
        &mut self,
        line: AnswerLine<'_>,
        previous: &str,
        edits: &mut Vec<Edit>,
    ) -> Result<(), Refusal> {
        let text = line.text;
        if let Some(fence) = &self.fence {
            if fence.is_closed_by(text) {
                self.fence = None;
                return Ok(());
            }
        } else if let Some(fence) = Fence::open(text) {
            self.fence = Some(fence);
            return Ok(());
        }
        if let Some(names) = text.strip_prefix("diff --git ") {
            self.close_file(edits);
            self.file = File {
                line: line.number,
                git: git_names(names),
                ..File::default()
            };
        } else if let Some(old) = previous.strip_prefix("--- ")
            && let Some(new) = text.strip_prefix("+++ ")
        {
            if self.file.git.is_none() || self.file.n_hunks > 0 {
                self.close_file(edits);
                self.file = File {
                    line: line.number - 1,
                    ..File::default()
                };
            }
            self.name_file(old, new);
        } else if text.starts_with("@@")
            && let Some(header) = any_header(text)
        {
            self.hunk = Some(Hunk::new(line.number, header));
        } else if self.file.git.is_some() && self.file.n_hunks == 0 {
            self.file.extended_header(text, line.number)?;
        } else {
            refuse_other_format(line, previous, Format::UnifiedDiff)?;
        }
        Ok(())
    }

    fn name_file(&mut self, old: &str, new: &str) {
        let (mut old, mut new) = (Name::read(old), Name::read(new));
        // `a/` and `b/` are git's, unless only one of them is there.
        let stripped = (old.without("a/"), new.without("b/"));
        if let (Some(o), Some(n)) = stripped {
            (old, new) = (o, n);
        }
        self.file.is_new |= old == Name::None;
        self.file.is_deleted |= new == Name::None;
        self.file.old = Some(old);
        self.file.new = Some(new);
    }

    fn close_hunk(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        let Some(mut hunk) = self.hunk.take() else {
            return Ok(());
        };
        let file = &mut self.file;
        file.announce(edits);
        file.n_hunks += 1;
        if !hunk.is_complete() {
            trim_bare_end(&mut hunk.lines);
        }
        let block = Block { lines: hunk.lines };
        let path = file.path();
        let from_nothing =
            hunk.header.old_start == Some(0) && hunk.header.counts.is_some_and(|c| c.0 == 0);
        let op = if file.is_deleted {
            Op::Delete {
                quoted: block.old().map(|l| l.text.clone()).collect(),
            }
        } else if file.is_new || (from_nothing && block.n_old() == 0) {
            if block.n_old() > 0 || file.n_hunks > 1 {
                return Err(Refusal::new(
                    Kind::Malformed,
                    format!(
                        "the hunk of line {} changes lines of a file that is new",
                        hunk.line
                    ),
                ));
            }
            Op::Create {
                text: whole_text(&block),
                executable: file.executable == Some(true),
            }
        } else if !block.has_changes() {
            return Ok(());
        } else {
            let has_old = block.n_old() > 0;
            let counted = hunk.header.counts.is_some();
            Op::Lines {
                readings: vec![block],
                hints: Hints {
                    line: hunk.header.old_start,
                    headings: hunk.header.section.into_iter().collect(),
                    at_end: false,
                    marks_context: true,
                    bare_insert: if !has_old && counted {
                        BareInsert::AfterLine
                    } else {
                        BareInsert::Refused
                    },
                },
            }
        };
        edits.push(Edit {
            path,
            line: hunk.line,
            op,
        });
        Ok(())
    }

    /// Adds what a file's headers say and no hunk does.
    fn close_file(&mut self, edits: &mut Vec<Edit>) {
        let mut file = std::mem::take(&mut self.file);
        file.announce(edits);
        if file.n_hunks > 0 || file.git.is_none() {
            return;
        }
        let op = if file.is_new {
            Op::Create {
                text: String::new(),
                executable: file.executable == Some(true),
            }
        } else if file.is_deleted {
            Op::Delete { quoted: Vec::new() }
        } else {
            return;
        };
        edits.push(Edit {
            path: file.path(),
            line: file.line,
            op,
        });
    }
}

impl File {
    fn extended_header(&mut self, text: &str, line: usize) -> Result<(), Refusal> {
        let mode = |mode: &str| mode.trim().ends_with("755");
        if let Some(m) = text.strip_prefix("new file mode ") {
            self.is_new = true;
            self.executable = Some(mode(m));
        } else if text.starts_with("deleted file mode ") {
            self.is_deleted = true;
        } else if let Some(m) = text.strip_prefix("new mode ") {
            self.executable = Some(mode(m));
            self.mode_changed = true;
        } else if let Some(from) = text.strip_prefix("rename from ") {
            self.rename = Some((unquoted(from), String::new()));
        } else if let Some(to) = text.strip_prefix("rename to ") {
            if let Some(rename) = &mut self.rename {
                rename.1 = unquoted(to);
            }
        } else if text.starts_with("copy from ")
            || text.starts_with("GIT binary patch")
            || text.starts_with("Binary files ")
        {
            return Err(Refusal::new(
                Kind::Malformed,
                format!("line {line}: copies and binary patches cannot be applied from an answer"),
            ));
        }
        Ok(())
    }

    /// Adds the rename and the change of mode, once, ahead of the hunks.
    fn announce(&mut self, edits: &mut Vec<Edit>) {
        if std::mem::replace(&mut self.renamed, true) {
            return;
        }
        let mut push = |op| {
            edits.push(Edit {
                path: self.path(),
                line: self.line,
                op,
            });
        };
        if self.mode_changed
            && let Some(executable) = self.executable
        {
            push(Op::Mode { executable });
        }
        if let Some((_, to)) = &self.rename
            && !to.is_empty()
        {
            push(Op::Rename { to: to.clone() });
        }
    }

    fn path(&self) -> Option<String> {
        let path = |name: &Option<Name>| match name {
            Some(Name::Path(path)) => Some(path.clone()),
            Some(Name::None) | None => None,
        };
        if let Some((from, _)) = &self.rename {
            return Some(from.clone());
        }
        path(&self.new)
            .or_else(|| path(&self.old))
            .or_else(|| self.git.as_ref().map(|g| g.1.clone()))
    }
}

impl Name {
    fn read(text: &str) -> Self {
        let text = text.split('\t').next().unwrap_or_default().trim_end();
        match unquoted(text) {
            path if path == "/dev/null" => Self::None,
            path => Self::Path(path),
        }
    }

    fn without(&self, prefix: &str) -> Option<Self> {
        match self {
            Self::None => Some(Self::None),
            Self::Path(path) => Some(Self::Path(path.strip_prefix(prefix)?.to_owned())),
        }
    }
}

impl Hunk {
    fn new(line: usize, header: Header) -> Self {
        Self {
            line,
            header,
            lines: Vec::new(),
            n_old: 0,
            n_new: 0,
        }
    }

    fn push(&mut self, line: BlockLine) {
        self.n_old += usize::from(line.kind != LineKind::Added);
        self.n_new += usize::from(line.kind != LineKind::Removed);
        self.lines.push(line);
    }

    /// Whether the hunk has just as many lines as its header says.
    fn is_complete(&self) -> bool {
        self.header.counts == Some((self.n_old, self.n_new))
    }

    fn is_short(&self) -> bool {
        self.header
            .counts
            .is_some_and(|(old, new)| self.n_old < old || self.n_new < new)
    }

    /// Takes the `---` and `+++` lines of the next file off the end, which look like changes.
    fn take_file_header(&mut self) -> Option<(String, String)> {
        let [.., old, new] = self.lines.as_slice() else {
            return None;
        };
        if self.is_complete() || old.kind != LineKind::Removed || new.kind != LineKind::Added {
            return None;
        }
        let names = (
            old.text.strip_prefix("-- ")?.to_owned(),
            new.text.strip_prefix("++ ")?.to_owned(),
        );
        self.lines.truncate(self.lines.len() - 2);
        self.n_old -= 1;
        self.n_new -= 1;
        Some(names)
    }
}

/// Whether `line`, after `previous`, is one that only a diff has.
pub(super) fn is_header(line: &str, previous: &str) -> bool {
    line.starts_with("diff --git ")
        || (line.starts_with("+++ ") && previous.starts_with("--- "))
        || hunk_header(line).is_some_and(|h| h.old_start.is_some())
}

/// Reads `@@ -1,2 +3,4 @@ section`.
pub(super) fn hunk_header(line: &str) -> Option<Header> {
    let rest = line.strip_prefix("@@ -")?;
    let (old, rest) = rest.split_once(" +")?;
    let (new, section) = rest.split_once("@@")?;
    let (old_start, old_n) = span(old.trim())?;
    let (_, new_n) = span(new.trim())?;
    let section = Some(section.trim())
        .filter(|s| !s.is_empty())
        .map(str::to_owned);
    Some(Header {
        old_start: Some(old_start),
        counts: Some((old_n, new_n)),
        section,
    })
}

/// Reads a hunk header with or without numbers: `@@ ... @@`, `@@ @@`, `@@`.
fn any_header(line: &str) -> Option<Header> {
    if let Some(header) = hunk_header(line) {
        return Some(header);
    }
    let rest = line.strip_prefix("@@")?;
    let section = rest
        .split_once("@@")
        .map_or("", |(_, section)| section)
        .trim();
    let section = Some(section).filter(|s| !s.is_empty()).map(str::to_owned);
    Some(Header {
        old_start: None,
        counts: None,
        section,
    })
}

fn span(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((start, n)) => Some((start.parse().ok()?, n.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

/// Reads a line of a hunk or chunk; one without a mark is context as it stands.
pub(super) fn body_line(text: &str) -> BlockLine {
    match text.as_bytes().first() {
        Some(b'+') => BlockLine::new(LineKind::Added, &text[1..]),
        Some(b'-') => BlockLine::new(LineKind::Removed, &text[1..]),
        Some(b' ') => BlockLine {
            unmarked: Some(text.to_owned()),
            ..BlockLine::new(LineKind::Context, &text[1..])
        },
        _ => BlockLine::new(LineKind::Context, text),
    }
}

/// Takes empty lines without a mark off the end: they set the hunk off from what follows.
pub(super) fn trim_bare_end(lines: &mut Vec<BlockLine>) {
    while lines.last().is_some_and(|l| {
        l.kind == LineKind::Context && l.unmarked.is_none() && l.text.trim().is_empty()
    }) {
        lines.pop();
    }
}

/// Reads an answer, or its only fence, as one hunk without any header.
pub(super) fn headerless(lines: &[&str]) -> Option<Edit> {
    let fences: Vec<usize> = (0..lines.len())
        .filter(|&i| lines[i].trim().starts_with("```"))
        .collect();
    let range = match fences[..] {
        [] => 0..lines.len(),
        [first, last] => first + 1..last,
        _ => return None,
    };
    let mut body: Vec<BlockLine> = lines[range.clone()]
        .iter()
        .map(|line| body_line(line))
        .collect();
    trim_bare_end(&mut body);
    let block = Block { lines: body };
    let hints = Hints {
        marks_context: true,
        ..Hints::default()
    };
    (block.has_changes() && block.n_old() > 0).then(|| Edit {
        path: None,
        line: range.start + 1,
        op: Op::Lines {
            readings: vec![block],
            hints,
        },
    })
}

fn whole_text(block: &Block) -> String {
    let mut text = String::new();
    for line in block.new_lines() {
        text.push_str(&line.text);
        if !line.open {
            text.push('\n');
        }
    }
    text
}

fn ends_like_git(readings: &[Block]) -> bool {
    readings.iter().all(|block| {
        block
            .lines
            .iter()
            .rev()
            .take_while(|l| l.kind == LineKind::Context)
            .count()
            >= GIT_CONTEXT
    })
}

/// Reads `a/old b/new`. Blanks in names make this a guess; headers below it are exact.
fn git_names(text: &str) -> Option<(String, String)> {
    if let Some((old, new)) = text.split_once(" b/") {
        let old = old.strip_prefix("a/").unwrap_or(old);
        return Some((old.to_owned(), new.to_owned()));
    }
    if text.starts_with('"') {
        let (old, new) = text.split_once("\" ")?;
        let strip = |name: String, prefix: &str| {
            name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name)
        };
        return Some((
            strip(unquoted(&format!("{old}\"")), "a/"),
            strip(unquoted(new), "b/"),
        ));
    }
    let (old, new) = text.split_once(' ')?;
    Some((old.to_owned(), new.to_owned()))
}

/// Undoes git's quoting of names: `"caf\303\251"`.
fn unquoted(text: &str) -> String {
    let text = text.trim_end();
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let octal = rest
            .get(..3)
            .filter(|d| d.iter().all(|b| (b'0'..=b'7').contains(b)));
        if let Some(digits) = octal {
            bytes.push(
                digits
                    .iter()
                    .fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')),
            );
            rest = &rest[3..];
        } else if let Some((&escaped, tail)) = rest.split_first() {
            bytes.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            });
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cut() -> Refusal {
    Refusal::new(
        Kind::TruncatedOutput,
        "the answer ends inside a hunk of the diff",
    )
}
