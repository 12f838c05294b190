//! Search/replace blocks: text to find, a divider, text to put there.
//!
//! Three spellings: `<<<<<<< SEARCH` … `=======` … `>>>>>>> REPLACE` with the path above, the same
//! with `------- SEARCH` and `+++++++ REPLACE` (marks of any length; `:start_line:` may follow the
//! opener), and `---FILEPATH`, `---FIND`, `---REPLACE` with fenced texts.
//! A line of the text may look like the divider. Then every way to divide is a reading, and the
//! file decides which of them is in it.

use super::block::Block;
use super::fence::Fence;
use super::heading::path_above;
use super::{AnswerLine, BareInsert, Edit, Format, Hints, Op, refuse_other_format};
use crate::edit::{Kind, Refusal};

/// Lines above a block that may name its file.
const LINES_ABOVE: usize = 6;
/// Most ways to divide a block that are tried.
const MAX_READINGS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Machine {
    state: State,
    /// The last lines outside of blocks, for the path.
    above: Vec<String>,
    /// The file of the last block, which is also that of a block without a path.
    path: Option<String>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Outside,
    Marked(Marked),
    Fenced(Fenced),
}

/// Inside `<<<<<<< SEARCH` … `>>>>>>> REPLACE`.
#[derive(Debug)]
struct Marked {
    line: usize,
    opener_len: usize,
    body: Vec<String>,
    /// Where the body has lines that may be the divider.
    dividers: Vec<usize>,
}

/// Inside `---FIND` … `---REPLACE` … `---COMPLETE`.
#[derive(Debug)]
struct Fenced {
    line: usize,
    find: Vec<String>,
    replace: Option<Vec<String>>,
}

impl Machine {
    pub(super) fn line(
        &mut self,
        line: AnswerLine<'_>,
        edits: &mut Vec<Edit>,
    ) -> Result<(), Refusal> {
        match &mut self.state {
            State::Outside => self.outside(line),
            State::Marked(block) => {
                if is_closer(line.text) {
                    let edit = block.close(self.path.clone(), line.number)?;
                    edits.push(edit);
                    self.state = State::Outside;
                    self.above.clear();
                    return Ok(());
                }
                if opener_len(line.text).is_some() {
                    return Err(malformed(
                        block.line,
                        "has a second SEARCH marker before its REPLACE marker",
                    ));
                }
                if is_divider(line.text) {
                    block.dividers.push(block.body.len());
                }
                block.body.push(line.text.to_owned());
                Ok(())
            }
            State::Fenced(block) => match line.text.trim_end() {
                "---REPLACE" if block.replace.is_none() => {
                    block.replace = Some(Vec::new());
                    Ok(())
                }
                "---COMPLETE" => {
                    self.close_fenced(edits)?;
                    self.state = State::Outside;
                    Ok(())
                }
                text if text == "---FIND" || text.starts_with("---FILEPATH") => {
                    self.close_fenced(edits)?;
                    self.state = State::Outside;
                    self.outside(line)
                }
                _ => {
                    let lines = block.replace.as_mut().unwrap_or(&mut block.find);
                    lines.push(line.text.to_owned());
                    Ok(())
                }
            },
        }
    }

    pub(super) fn finish(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        match &self.state {
            State::Outside => Ok(()),
            State::Marked(block) => Err(Refusal::new(
                Kind::TruncatedOutput,
                format!(
                    "the answer ends inside the SEARCH block that begins on line {}",
                    block.line
                ),
            )),
            State::Fenced(_) => self.close_fenced(edits),
        }
    }

    fn outside(&mut self, line: AnswerLine<'_>) -> Result<(), Refusal> {
        let above: Vec<&str> = self.above.iter().map(String::as_str).collect();
        if let Some(opener_len) = opener_len(line.text) {
            self.path = path_above(&above).or(self.path.take());
            self.state = State::Marked(Marked {
                line: line.number,
                opener_len,
                body: Vec::new(),
                dividers: Vec::new(),
            });
            return Ok(());
        }
        if let Some(path) = line.text.strip_prefix("---FILEPATH") {
            self.path = Some(path.trim().to_owned());
            return Ok(());
        }
        if line.text.trim_end() == "---FIND" {
            self.state = State::Fenced(Fenced {
                line: line.number,
                find: Vec::new(),
                replace: None,
            });
            return Ok(());
        }
        if is_closer(line.text) {
            return Err(malformed(
                line.number,
                "is a REPLACE marker, but no block is open",
            ));
        }
        refuse_other_format(
            line,
            above.last().copied().unwrap_or_default(),
            Format::SearchReplace,
        )?;
        if self.above.len() == LINES_ABOVE {
            self.above.remove(0);
        }
        self.above.push(line.text.to_owned());
        Ok(())
    }

    fn close_fenced(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        let State::Fenced(block) = &self.state else {
            return Ok(());
        };
        let Some(replace) = &block.replace else {
            return Err(malformed(block.line, "has a FIND but no REPLACE"));
        };
        let truncated = || {
            Refusal::new(
                Kind::TruncatedOutput,
                format!(
                    "the FIND block of line {} has a fence that is not closed",
                    block.line
                ),
            )
        };
        let old = unfenced(&block.find).ok_or_else(truncated)?;
        let new = unfenced(replace).ok_or_else(truncated)?;
        edits.push(edit(
            self.path.clone(),
            block.line,
            &[(old, new)],
            Hints::default(),
        ));
        Ok(())
    }
}

impl Marked {
    fn close(&mut self, path: Option<String>, closer: usize) -> Result<Edit, Refusal> {
        let hints = self.take_header();
        let body: Vec<String> = self
            .body
            .iter()
            .map(|line| unescaped(line).to_owned())
            .collect();
        // Marks of one length belong together; text that looks like a divider often has another.
        let len = |&at: &usize| body[at].len();
        let fitting: Vec<usize> = self
            .dividers
            .iter()
            .copied()
            .filter(|at| len(at) == self.opener_len)
            .collect();
        let dividers = if fitting.is_empty() {
            &self.dividers
        } else {
            &fitting
        };
        if dividers.is_empty() {
            return Err(malformed(
                self.line,
                &format!("has no line of `=======` between SEARCH and REPLACE (line {closer})"),
            ));
        }
        if dividers.len() > MAX_READINGS {
            return Err(malformed(
                self.line,
                "has too many lines that look like its divider",
            ));
        }
        let readings: Vec<_> = dividers
            .iter()
            .map(|&at| (body[..at].to_vec(), body[at + 1..].to_vec()))
            .collect();
        Ok(edit(path, self.line, &readings, hints))
    }

    /// Takes `:start_line:12`, `:end_line:14` and `-------` off the head of the body.
    fn take_header(&mut self) -> Hints {
        let mut hints = Hints::default();
        let mut n_header = 0;
        for line in &self.body {
            let line = line.trim();
            if let Some(number) = line.strip_prefix(":start_line:") {
                hints.line = number.trim().parse().ok().filter(|&n| n > 0);
            } else if n_header > 0 && line.len() >= 5 && line.bytes().all(|b| b == b'-') {
                n_header += 1;
                break;
            } else if !line.starts_with(":end_line:") {
                break;
            }
            n_header += 1;
        }
        self.body.drain(..n_header);
        self.dividers.iter_mut().for_each(|at| *at -= n_header);
        hints
    }
}

fn edit(
    path: Option<String>,
    line: usize,
    readings: &[(Vec<String>, Vec<String>)],
    hints: Hints,
) -> Edit {
    let is_blank = |lines: &[String]| lines.iter().all(|l| l.trim().is_empty());
    let op = match readings {
        [(old, new)] if is_blank(old) => {
            let mut text = new.join("\n");
            if !new.is_empty() {
                text.push('\n');
            }
            Op::Create {
                text,
                executable: false,
            }
        }
        _ => Op::Lines {
            readings: readings
                .iter()
                .map(|(old, new)| {
                    let old: Vec<&str> = old.iter().map(String::as_str).collect();
                    let new: Vec<&str> = new.iter().map(String::as_str).collect();
                    Block::from_lines(&old, &new)
                })
                .collect(),
            hints: Hints {
                bare_insert: BareInsert::Refused,
                ..hints
            },
        },
    };
    Edit { path, line, op }
}

/// Whether `line` begins a block in one of the spellings.
pub(super) fn is_opener(line: &str) -> bool {
    opener_len(line).is_some() || line.trim_end() == "---FIND" || line.starts_with("---FILEPATH ")
}

/// The number of the first line that ends a block though none is open.
pub(super) fn stray_marker(lines: &[&str]) -> Option<usize> {
    lines
        .iter()
        .position(|line| is_closer(line))
        .map(|idx| idx + 1)
}

/// Length of the mark of a line like `<<<<<<< SEARCH`.
fn opener_len(line: &str) -> Option<usize> {
    marker(line, " SEARCH", &[('<', 5), ('-', 3)])
}

fn is_closer(line: &str) -> bool {
    marker(line, " REPLACE", &[('>', 5), ('+', 3)]).is_some()
}

/// Blanks after a divider are not taken: text has such lines more often than answers do.
fn is_divider(line: &str) -> bool {
    line.len() >= 5 && line.bytes().all(|b| b == b'=')
}

fn marker(line: &str, word: &str, marks: &[(char, usize)]) -> Option<usize> {
    let line = line.trim_end();
    let mark = line.strip_suffix('>').unwrap_or(line).strip_suffix(word)?;
    let &(_, least) = marks
        .iter()
        .find(|(c, _)| mark.starts_with(*c) && mark.chars().all(|m| m == *c))?;
    (mark.len() >= least).then_some(mark.len())
}

/// Takes the backslash off a line that would be a marker without it.
fn unescaped(line: &str) -> &str {
    match line.strip_prefix('\\') {
        Some(rest) if is_divider(rest) || opener_len(rest).is_some() || is_closer(rest) => rest,
        _ => line,
    }
}

/// Takes the fence off a text; prose after the closing line goes with it. A text without a fence
/// is itself. `None` when the fence is not closed, or when it is open to doubt where.
fn unfenced(lines: &[String]) -> Option<Vec<String>> {
    let first = lines.iter().position(|line| !line.trim().is_empty())?;
    let Some(fence) = Fence::open(&lines[first]) else {
        return Some(lines.to_vec());
    };
    let body = &lines[first + 1..];
    let last = body.iter().rposition(|line| !line.trim().is_empty())?;
    if fence.is_closed_by(&body[last]) {
        return Some(body[..last].to_vec());
    }
    let mut closers = (0..body.len()).filter(|&idx| fence.is_closed_by(&body[idx]));
    let only = closers.next()?;
    closers.next().is_none().then(|| body[..only].to_vec())
}

fn malformed(line: usize, what: &str) -> Refusal {
    Refusal::new(Kind::Malformed, format!("the block of line {line} {what}"))
}
