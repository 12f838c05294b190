//! A block of lines to find and change: context, removed and added lines, in order.

use imara_diff::{Algorithm, Diff, InternedInput};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    pub lines: Vec<BlockLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineKind {
    Context,
    Removed,
    Added,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLine {
    pub kind: LineKind,
    pub text: String,
    /// For context lines of diffs: the text if its first blank is not a mark but part of it.
    pub unmarked: Option<String>,
    /// The diff says that no line end follows (`\ No newline at end of file`).
    pub open: bool,
}

impl BlockLine {
    pub fn new(kind: LineKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            unmarked: None,
            open: false,
        }
    }
}

impl Block {
    /// Makes a block of text to find and text to put in its place; lines that both have, in order,
    /// become context.
    pub fn from_lines(old: &[&str], new: &[&str]) -> Self {
        let mut input: InternedInput<&str> = InternedInput::default();
        input.update_before(old.iter().copied());
        input.update_after(new.iter().copied());
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_no_heuristic(&input);
        let mut lines = Vec::with_capacity(old.len() + new.len());
        let mut next = 0;
        for hunk in diff.hunks() {
            let (before, after) = (hunk.before, hunk.after);
            push(
                &mut lines,
                LineKind::Context,
                &old[next..before.start as usize],
            );
            push(
                &mut lines,
                LineKind::Removed,
                &old[before.start as usize..before.end as usize],
            );
            push(
                &mut lines,
                LineKind::Added,
                &new[after.start as usize..after.end as usize],
            );
            next = before.end as usize;
        }
        push(&mut lines, LineKind::Context, &old[next..]);
        Self { lines }
    }

    /// The lines that must be in the file: context and removed ones.
    pub fn old(&self) -> impl DoubleEndedIterator<Item = &BlockLine> + Clone {
        self.lines.iter().filter(|l| l.kind != LineKind::Added)
    }

    /// The lines that will be in the file: context and added ones.
    pub fn new_lines(&self) -> impl DoubleEndedIterator<Item = &BlockLine> + Clone {
        self.lines.iter().filter(|l| l.kind != LineKind::Removed)
    }

    pub fn n_old(&self) -> usize {
        self.old().count()
    }

    pub fn has_changes(&self) -> bool {
        self.lines.iter().any(|l| l.kind != LineKind::Context)
    }

    pub fn has(&self, kind: LineKind) -> bool {
        self.lines.iter().any(|l| l.kind == kind)
    }

    /// The block with every text run through `change`; `None` if it fails for one of them.
    pub fn map(&self, mut change: impl FnMut(&BlockLine) -> Option<String>) -> Option<Self> {
        let lines = self
            .lines
            .iter()
            .map(|line| {
                Some(BlockLine {
                    text: change(line)?,
                    unmarked: None,
                    ..line.clone()
                })
            })
            .collect::<Option<_>>()?;
        Some(Self { lines })
    }
}

fn push(lines: &mut Vec<BlockLine>, kind: LineKind, texts: &[&str]) {
    lines.extend(texts.iter().map(|text| BlockLine::new(kind, *text)));
}
