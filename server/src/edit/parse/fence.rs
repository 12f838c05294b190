//! Fences of Markdown: which line opens one, and which closes it.

/// The line that opens a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    mark: char,
    len: usize,
    indent: usize,
    pub(super) info: String,
}

impl Fence {
    /// Reads an opening line. An info string with a backtick makes it inline code instead.
    pub(super) fn open(line: &str) -> Option<Self> {
        let (mark, len, indent, rest) = split(line)?;
        let info = rest.trim();
        (!info.contains('`')).then(|| Self {
            mark,
            len,
            indent,
            info: info.to_owned(),
        })
    }

    /// Whether `line` closes this fence: the same mark, as long or longer, as far in, nothing else.
    pub(super) fn is_closed_by(&self, line: &str) -> bool {
        split(line).is_some_and(|(mark, len, indent, rest)| {
            mark == self.mark && len >= self.len && indent == self.indent && rest.trim().is_empty()
        })
    }

    /// Whether `line` opens a fence that this one cannot tell from its own kind.
    pub(super) fn is_reopened_by(&self, line: &str) -> bool {
        Self::open(line)
            .is_some_and(|f| f.mark == self.mark && f.len >= self.len && !f.info.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

fn split(line: &str) -> Option<(char, usize, usize, &str)> {
    let rest = line.trim_start_matches(' ');
    let indent = line.len() - rest.len();
    let mark = rest.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let tail = rest.trim_start_matches(mark);
    let len = rest.len() - tail.len();
    (len >= 3).then_some((mark, len, indent, tail))
}
