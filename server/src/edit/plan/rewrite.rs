//! A whole file in place of the one that is there: reduced to the lines that differ.

use imara_diff::{Algorithm, Diff, InternedInput};

use super::{Kind, Refusal};
use crate::edit::apply_set::{Done, placeholder};
use crate::edit::elide::find_placeholder;
use crate::edit::text::{Breaks, LineEnd, NewLine, Splice, Text};

/// Lines of a file from which on losing half of them is not taken for granted.
const SMALL: usize = 10;

/// Changes `bytes` into `new`, which may be spelled with other line ends and, in a fence, cannot
/// say how its last line ends.
///
/// # Errors
/// When `new` holds placeholders or looks like a part of the file rather than the whole.
pub(super) fn rewrite(
    bytes: &[u8],
    new: &str,
    fenced: bool,
    is_python: bool,
) -> Result<Done, Refusal> {
    let text = Text::decode(bytes.to_vec(), Breaks::Lf)
        .map_err(|why| Refusal::new(Kind::Other, format!("the file {why}")))?;
    let lines: Vec<&str> = new.lines().collect();
    let mut input: InternedInput<&str> = InternedInput::default();
    input.update_before(text.lines());
    input.update_after(lines.iter().copied());
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_no_heuristic(&input);
    let mut splices: Vec<Splice> = diff
        .hunks()
        .map(|hunk| Splice {
            lines: hunk.before.start as usize..hunk.before.end as usize,
            new: lines[hunk.after.start as usize..hunk.after.end as usize]
                .iter()
                .map(|line| NewLine::new(*line))
                .collect(),
        })
        .collect();
    let n_kept = lines.len() - diff.count_additions() as usize;
    let has_line = |line: &str| text.lines().any(|l| l.trim() == line.trim());
    let added = splices.iter().flat_map(|s| &s.new).map(|l| l.text.as_str());
    if let Some(line) = find_placeholder(added, has_line, is_python) {
        return Err(placeholder(line));
    }
    check_whole(text.n_lines(), lines.len(), n_kept)?;
    if !fenced {
        end_as(&mut splices, &text, new);
    }
    let (bytes, changes) = text
        .apply(&splices)
        .map_err(|why| Refusal::new(Kind::Other, why.to_string()))?;
    Ok(Done {
        bytes,
        changes,
        levels: Vec::new(),
    })
}

/// Refuses text that is much shorter than the file: most likely a part of it, or an example.
fn check_whole(n_old: usize, n_new: usize, n_kept: usize) -> Result<(), Refusal> {
    let loses_most = n_new * 2 < n_old;
    if loses_most && (n_new == 0 || n_old >= SMALL || n_kept * 2 >= n_new) {
        return Err(Refusal::new(
            Kind::Other,
            format!(
                "the new text has {n_new} lines where the file has {n_old}; write the whole file, or edit it in parts"
            ),
        ));
    }
    Ok(())
}

/// Makes the last line end as `new` says.
fn end_as(splices: &mut Vec<Splice>, text: &Text, new: &str) {
    let is_ended = new.is_empty() || new.ends_with('\n');
    let end = if is_ended {
        LineEnd::Ended
    } else {
        LineEnd::Open
    };
    let n_lines = text.n_lines();
    match splices.last_mut() {
        Some(last) if last.lines.end == n_lines && !last.new.is_empty() => {
            if let Some(line) = last.new.last_mut() {
                line.end = end;
            }
        }
        Some(last) if last.lines.end == n_lines => {}
        _ if is_ended != text.is_ended() && n_lines > 0 => splices.push(Splice {
            lines: n_lines - 1..n_lines,
            new: vec![NewLine {
                text: text.line(n_lines - 1).to_owned(),
                end,
            }],
        }),
        _ => {}
    }
}
