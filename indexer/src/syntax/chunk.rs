//! Cuts a file into the pieces that are scored and shown: functions where it can, else windows.
//!
//! Every definition starts and ends a segment of lines. Short neighbouring segments are joined up
//! to [`JOIN_LINES`], so getters and constants do not each become a chunk; a segment that is
//! already [`OWN_LINES`] long stays alone; one above [`MAX_LINES`] is cut into equal windows.

use super::{Chunk, Definition, DefinitionKind};

const JOIN_LINES: u32 = 40;
const OWN_LINES: u32 = 12;
const MAX_LINES: u32 = 60;

/// Returns chunks in order; blank lines at their edges are left out.
///
/// `line_starts` has one entry more than there are lines. `n_terms` is zero here.
pub(super) fn cut(text: &str, line_starts: &[usize], definitions: &[Definition]) -> Vec<Chunk> {
    let n_lines = line_starts.len() as u32 - 1;
    let mut bounds: Vec<u32> = vec![0, n_lines];
    for definition in definitions {
        let is_small = match definition.kind {
            DefinitionKind::Field | DefinitionKind::Constant | DefinitionKind::Declaration => {
                definition.end_line - definition.first_line < OWN_LINES
            }
            DefinitionKind::Function
            | DefinitionKind::Method
            | DefinitionKind::Class
            | DefinitionKind::Interface
            | DefinitionKind::Implementation
            | DefinitionKind::Type
            | DefinitionKind::Module
            | DefinitionKind::Macro
            | DefinitionKind::Section => false,
        };
        if !is_small {
            bounds.push(definition.first_line.min(n_lines));
            bounds.push(definition.end_line.min(n_lines));
        }
    }
    bounds.sort_unstable();
    bounds.dedup();

    let mut pieces: Vec<(u32, u32)> = Vec::new();
    for segment in bounds.windows(2) {
        let (start, end) = (segment[0], segment[1]);
        match pieces.last_mut() {
            Some((from, to))
                if end - *from <= JOIN_LINES
                    && (end - start < OWN_LINES || *to - *from < 3)
                    && *to - *from < 2 * OWN_LINES =>
            {
                *to = end;
            }
            Some(_) | None => pieces.push((start, end)),
        }
    }

    let is_blank = |line: u32| {
        text[line_starts[line as usize]..line_starts[line as usize + 1]]
            .trim()
            .is_empty()
    };
    let mut chunks = Vec::with_capacity(pieces.len());
    for (start, end) in pieces {
        let n_windows = (end - start).div_ceil(MAX_LINES).max(1);
        let size = (end - start).div_ceil(n_windows);
        for window in 0..n_windows {
            let mut first_line = start + window * size;
            let mut end_line = (first_line + size).min(end);
            while first_line < end_line && is_blank(first_line) {
                first_line += 1;
            }
            while first_line < end_line && is_blank(end_line - 1) {
                end_line -= 1;
            }
            if first_line < end_line {
                chunks.push(Chunk {
                    first_line,
                    end_line,
                    definition: None,
                    n_terms: 0,
                });
            }
        }
    }
    name(&mut chunks, definitions);
    chunks
}

/// Gives each chunk the definition that covers most of its lines, the innermost among equals.
fn name(chunks: &mut [Chunk], definitions: &[Definition]) {
    let mut best: Vec<u32> = vec![0; chunks.len()];
    for (at, definition) in definitions.iter().enumerate() {
        let from = chunks.partition_point(|chunk| chunk.end_line <= definition.first_line);
        for (chunk, best) in chunks[from..].iter_mut().zip(&mut best[from..]) {
            if chunk.first_line >= definition.end_line {
                break;
            }
            let covered = chunk.end_line.min(definition.end_line)
                - chunk.first_line.max(definition.first_line);
            if covered >= *best {
                *best = covered;
                chunk.definition = Some(at as u32);
            }
        }
    }
}
