//! The patch format of `apply_patch`: `*** Begin Patch`, sections per file, chunks of context,
//! `-` and `+` lines below `@@` headings, `*** End Patch`.
//!
//! Taken as models write it: with a heredoc around it, blanks around markers, headings glued to
//! `@@`, empty context lines without their blank, context lines without their mark.
//! Grammar after codex `apply-patch/apply_patch_tool_instructions.md`.

use super::block::{Block, BlockLine, LineKind};
use super::unified::{body_line, hunk_header, trim_bare_end};
use super::{AnswerLine, BareInsert, Edit, Format, Hints, Op, refuse_other_format};
use crate::edit::{Kind, Refusal};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File:";
const DELETE: &str = "*** Delete File:";
const UPDATE: &str = "*** Update File:";
const MOVE: &str = "*** Move to:";
const END_OF_FILE: &str = "*** End of File";

#[derive(Debug, Default)]
pub(super) struct Machine {
    /// The line of `*** Begin Patch`.
    begun: Option<usize>,
    ended: bool,
    section: Section,
    in_fence: bool,
    /// The two lines before, the nearest last.
    above: [String; 2],
}

#[derive(Debug, Default)]
enum Section {
    #[default]
    None,
    /// Empty lines without a `+` are the file's only if more of it follows.
    Add {
        path: String,
        line: usize,
        text: String,
        empty: usize,
    },
    /// Nothing but blank lines may follow until the next section.
    Delete,
    Update(Update),
}

#[derive(Debug)]
struct Update {
    path: String,
    line: usize,
    moved: bool,
    n_chunks: usize,
    chunk: Chunk,
}

#[derive(Debug, Default)]
struct Chunk {
    line: usize,
    headings: Vec<String>,
    hint: Option<usize>,
    lines: Vec<BlockLine>,
    at_end: bool,
}

impl Machine {
    pub(super) fn line(
        &mut self,
        line: AnswerLine<'_>,
        edits: &mut Vec<Edit>,
    ) -> Result<(), Refusal> {
        let above = self.above.clone();
        self.above.rotate_left(1);
        line.text.clone_into(&mut self.above[1]);
        let inside = !matches!(self.section, Section::None);
        if self.ended {
            return refuse_other_format(line, &above[1], Format::ApplyPatch);
        }
        match marker(line.text) {
            Some(Marker::Begin) if self.begun.is_some() || inside => Err(malformed(
                line.number,
                "begins a second patch before the first is ended",
            )),
            Some(Marker::Begin) => {
                check_script(&above)?;
                self.begun = Some(line.number);
                Ok(())
            }
            Some(Marker::End) => {
                // More could have followed on a line that was cut in a blank.
                if !line.ended && line.text.ends_with([' ', '\t']) {
                    return Err(Refusal::new(
                        Kind::TruncatedOutput,
                        "the answer stops in the middle of its last line",
                    ));
                }
                self.close(edits)?;
                self.ended = true;
                Ok(())
            }
            Some(Marker::Section(kind, "")) => Err(malformed(
                line.number,
                &format!("has no path after `{kind}`"),
            )),
            Some(Marker::Section(kind, path)) => {
                self.close(edits)?;
                self.section = section(kind, path, line.number, edits);
                Ok(())
            }
            None => self.content(line, &above[1], edits),
        }
    }

    pub(super) fn finish(&mut self, edits: &mut [Edit]) -> Result<(), Refusal> {
        if !self.ended {
            return Err(Refusal::new(
                Kind::TruncatedOutput,
                "the patch does not end with `*** End Patch`; the answer may have been cut",
            ));
        }
        if edits.is_empty() {
            return Err(Refusal::new(Kind::Malformed, "the patch is empty"));
        }
        Ok(())
    }

    fn content(
        &mut self,
        line: AnswerLine<'_>,
        previous: &str,
        edits: &mut Vec<Edit>,
    ) -> Result<(), Refusal> {
        let blank = line.text.trim().is_empty();
        // A patch without its first and last marker is complete if the fence around it is.
        if line.text.starts_with("```") && self.begun.is_none() {
            if self.in_fence && !matches!(self.section, Section::None) {
                self.close(edits)?;
                self.ended = true;
            }
            self.in_fence = !self.in_fence;
            return Ok(());
        }
        match &mut self.section {
            Section::None if self.begun.is_none() => {
                refuse_other_format(line, previous, Format::ApplyPatch)
            }
            Section::None | Section::Delete if blank => Ok(()),
            Section::None | Section::Delete => Err(malformed(line.number, "is no part of a patch")),
            Section::Add { empty, .. } if blank && !line.text.starts_with('+') => {
                *empty += 1;
                Ok(())
            }
            Section::Add { text, empty, .. } => {
                let Some(added) = line.text.strip_prefix('+') else {
                    return Err(malformed(
                        line.number,
                        "lacks the `+` that lines of an added file have",
                    ));
                };
                text.push_str(&"\n".repeat(std::mem::take(empty)));
                text.push_str(added);
                text.push('\n');
                Ok(())
            }
            Section::Update(update) => update.line(line, edits),
        }
    }

    fn close(&mut self, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        match std::mem::take(&mut self.section) {
            Section::None | Section::Delete => Ok(()),
            Section::Add {
                path, line, text, ..
            } => {
                let op = Op::Create {
                    text,
                    executable: false,
                };
                edits.push(Edit {
                    path: Some(path),
                    line,
                    op,
                });
                Ok(())
            }
            Section::Update(mut update) => {
                update.close_chunk(edits);
                if update.n_chunks == 0 && !update.moved {
                    return Err(malformed(update.line, "updates a file but changes nothing"));
                }
                Ok(())
            }
        }
    }
}

impl Update {
    fn line(&mut self, line: AnswerLine<'_>, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
        let text = line.text;
        if let Some(to) = text.trim().strip_prefix(MOVE) {
            if self.n_chunks > 0 || !self.chunk.lines.is_empty() || self.moved {
                return Err(malformed(line.number, "moves a file after its changes"));
            }
            self.moved = true;
            let op = Op::Rename {
                to: to.trim().to_owned(),
            };
            edits.push(Edit {
                path: Some(self.path.clone()),
                line: line.number,
                op,
            });
        } else if text.trim_end() == END_OF_FILE {
            self.chunk.at_end = true;
            self.close_chunk(edits);
        } else if let Some(heading) = text.strip_prefix("@@") {
            if self.chunk.lines.iter().any(|l| !l.text.trim().is_empty()) {
                self.close_chunk(edits);
            }
            self.chunk.lines.clear();
            self.chunk.line = line.number;
            if let Some(header) = hunk_header(text) {
                self.chunk.hint = header.old_start;
                self.chunk.headings.extend(header.section);
            } else if let heading = heading.trim().trim_end_matches("@@").trim_end()
                && !heading.is_empty()
            {
                self.chunk.headings.push(heading.to_owned());
            }
        } else if !(text.trim().is_empty() && self.chunk.lines.is_empty() && self.chunk.line == 0) {
            if self.chunk.lines.is_empty() && self.chunk.line == 0 {
                self.chunk.line = line.number;
            }
            self.chunk.lines.push(body_line(text));
        }
        Ok(())
    }

    fn close_chunk(&mut self, edits: &mut Vec<Edit>) {
        let mut chunk = std::mem::take(&mut self.chunk);
        trim_bare_end(&mut chunk.lines);
        let block = Block { lines: chunk.lines };
        if !block.has_changes() {
            // Context alone says where the next chunk is.
            self.chunk.headings = chunk.headings;
            self.chunk.headings.extend(
                block
                    .lines
                    .into_iter()
                    .map(|l| l.text)
                    .filter(|t| !t.trim().is_empty()),
            );
            return;
        }
        self.n_chunks += 1;
        let has_old = block.has(LineKind::Context) || block.has(LineKind::Removed);
        let hints = Hints {
            line: chunk.hint,
            headings: chunk.headings,
            at_end: chunk.at_end,
            marks_context: true,
            bare_insert: if has_old {
                BareInsert::Refused
            } else {
                BareInsert::BelowHeading
            },
        };
        edits.push(Edit {
            path: Some(self.path.clone()),
            line: chunk.line,
            op: Op::Lines {
                readings: vec![block],
                hints,
            },
        });
    }
}

enum Marker<'a> {
    Begin,
    End,
    Section(&'static str, &'a str),
}

/// Whether `line` is one that only this format has.
pub(super) fn is_marker(line: &str) -> bool {
    match marker(line) {
        Some(Marker::Begin) => true,
        Some(Marker::Section(_, path)) => !path.is_empty(),
        Some(Marker::End) | None => false,
    }
}

/// Reads a marker. Lines of a file begin with a mark of their own, but those of a badly written
/// chunk may not: a marker is further in by at most two blanks.
fn marker(line: &str) -> Option<Marker<'_>> {
    let text = line.trim();
    if line.len() - line.trim_start().len() > 2 {
        return None;
    }
    match text {
        BEGIN => return Some(Marker::Begin),
        END => return Some(Marker::End),
        _ => {}
    }
    [ADD, DELETE, UPDATE]
        .into_iter()
        .find_map(|kind| Some(Marker::Section(kind, text.strip_prefix(kind)?.trim())))
}

fn section(kind: &str, path: &str, line: usize, edits: &mut Vec<Edit>) -> Section {
    let path = path.to_owned();
    match kind {
        ADD => Section::Add {
            path,
            line,
            text: String::new(),
            empty: 0,
        },
        DELETE => {
            edits.push(Edit {
                path: Some(path),
                line,
                op: Op::Delete { quoted: Vec::new() },
            });
            Section::Delete
        }
        _ => Section::Update(Update {
            path,
            line,
            moved: false,
            n_chunks: 0,
            chunk: Chunk::default(),
        }),
    }
}

/// Checks the lines above a patch, which may be a shell's `apply_patch <<'EOF'`.
///
/// More commands around it would change what the patch means (`cd`, above all), and we run none.
fn check_script([before, above]: &[String; 2]) -> Result<(), Refusal> {
    let Some((command, word)) = above.split_once("<<") else {
        return Ok(());
    };
    let word = word.trim().trim_start_matches('-');
    let plain = word.trim_matches(['\'', '"']);
    let is_quoted =
        |q: char| word.len() == plain.len() + 2 && word.starts_with(q) && word.ends_with(q);
    let is_word = !plain.is_empty()
        && plain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_word || !(plain == word || is_quoted('\'') || is_quoted('"')) {
        return Err(Refusal::new(
            Kind::Malformed,
            "the patch is in a here-document that cannot be read",
        ));
    }
    let mut command = command.trim().trim_start_matches("$ ");
    for shell in ["bash -lc", "bash -c", "sh -c"] {
        if let Some(quoted) = command.strip_prefix(shell) {
            command = quoted.trim().trim_start_matches(['"', '\'']);
        }
    }
    let before = before.trim_end();
    let is_first = before.is_empty() || before.starts_with("```") || before.ends_with([':', '.']);
    if !matches!(command, "" | "apply_patch") || !is_first {
        return Err(Refusal::new(
            Kind::Malformed,
            "the patch is part of a shell script; write the patch alone",
        ));
    }
    Ok(())
}

fn malformed(line: usize, what: &str) -> Refusal {
    Refusal::new(Kind::Malformed, format!("line {line} of the answer {what}"))
}
