//! Hunks for the eye and for programs.

use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;

use crate::cli::style::{self, paint};
use crate::edit::hunks::{HunkState, ProposedFile, What};
use crate::edit::text::{Breaks, Text};

/// Unchanged lines shown around changes.
const CONTEXT: usize = 3;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileReport {
    path: String,
    moved_from: Option<String>,
    hunks: Vec<HunkReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HunkReport {
    id: String,
    kind: &'static str,
    state: HunkState,
    /// First line, from one, and number of lines, before and after.
    before: Option<(usize, usize)>,
    after: Option<(usize, usize)>,
}

pub(super) fn report(file: &ProposedFile) -> FileReport {
    let counted = |lines: &Range<usize>| (lines.start + 1, lines.len());
    let hunks = file.hunks.iter().map(|hunk| {
        let (kind, before, after) = match &hunk.what {
            What::Lines(c) => ("lines", Some(counted(&c.before)), Some(counted(&c.after))),
            What::Create => ("create", None, None),
            What::Delete => ("delete", None, None),
            What::Move => ("move", None, None),
            What::Mode => ("mode", None, None),
        };
        HunkReport {
            id: hunk.id.clone(),
            kind,
            state: hunk.state,
            before,
            after,
        }
    });
    FileReport {
        path: file.path.to_string(),
        moved_from: file.moved_from.as_ref().map(ToString::to_string),
        hunks: hunks.collect(),
    }
}

/// Prints what changes in a file, with the id of each hunk above it.
pub(in crate::cli) fn diff(out: &mut impl Write, file: &ProposedFile) -> io::Result<()> {
    writeln!(out, "{}", paint(style::TITLE, title(file)))?;
    let text =
        |bytes: Option<&[u8]>| Text::decode(bytes.unwrap_or_default().to_vec(), Breaks::Lf).ok();
    let texts = (
        text(file.before.as_ref().map(|b| &b.0[..])),
        text(file.after.as_ref().map(|b| &b.0[..])),
    );
    let (Some(before), Some(after)) = texts else {
        return writeln!(out, "{}", paint(style::FAINT, "not text"));
    };
    for hunk in &file.hunks {
        let (old, new) = match &hunk.what {
            What::Lines(change) => (change.before.clone(), change.after.clone()),
            What::Create => (0..0, 0..after.n_lines()),
            What::Delete => (0..before.n_lines(), 0..0),
            What::Move | What::Mode => continue,
        };
        let above = old.start.saturating_sub(CONTEXT)..old.start;
        let below = old.end..(old.end + CONTEXT).min(before.n_lines());
        let header = format!(
            "@@ -{},{} +{},{} @@ {}",
            above.start + 1,
            below.end - above.start,
            new.start - above.len().min(new.start) + 1,
            above.len() + new.len() + below.len(),
            hunk.id
        );
        writeln!(out, "{}", paint(style::FAINT, header))?;
        let mut lines = |text: &Text, lines: Range<usize>, mark: char, style| {
            lines.into_iter().try_for_each(|idx| {
                let line = format!("{mark}{}", style::harmless(text.line(idx)));
                writeln!(out, "{}", paint(style, line))
            })
        };
        lines(&before, above, ' ', style::PLAIN)?;
        lines(&before, old, '-', style::REMOVED)?;
        lines(&after, new, '+', style::GOOD)?;
        lines(&before, below, ' ', style::PLAIN)?;
    }
    Ok(())
}

fn title(file: &ProposedFile) -> String {
    let mut title = file.path.to_string();
    if let Some(from) = &file.moved_from {
        title = format!("{from} → {title}");
    }
    match (&file.before, &file.after) {
        (None, Some(_)) => title.push_str(" (new)"),
        (Some(_), None) => title.push_str(" (removed)"),
        _ => {}
    }
    match file.executable {
        (false, true) if file.before.is_some() => title.push_str(" (made executable)"),
        (true, false) if file.after.is_some() => title.push_str(" (no longer executable)"),
        _ => {}
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::hunks::Proposal;
    use crate::edit::parse::{Format, parse};
    use crate::edit::plan::{Options, plan};
    use crate::edit::tree::MemoryTree;

    #[test]
    fn nothing_that_would_be_obeyed_by_a_terminal_is_shown_as_it_is() {
        let answer = "a.txt\n```\n\u{1b}[2J\u{2066}x\u{200b}y\n```\n";
        let edits = parse(answer, Format::WholeFile).unwrap();
        let plan = plan(&edits, &MemoryTree::default(), &Options::default()).unwrap();
        let proposal = Proposal::new(plan, "test".into(), None);
        let mut out = Vec::new();
        diff(&mut out, &proposal.files[0]).unwrap();
        let out = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert!(out.starts_with("a.txt (new)\n"), "{out}");
        assert!(out.ends_with("+\\u{1b}[2J\\u{2066}x\\u{200b}y\n"), "{out}");
    }
}
