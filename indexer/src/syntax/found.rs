//! What a walk over a tree finds, and what of it still holds after an edit.
//!
//! Holds: what a node gives depends on the bytes it covers alone. So after an edit everything keeps
//! holding, moved, that does not meet a changed range; the walk is repeated for the rest
//! (`reparse`), and gives the same as a walk over the whole tree.

use std::ops::Range;

use tree_sitter::{InputEdit, Node, Tree};

use super::DefinitionKind;

const MAX_NAME: usize = 120;
const MAX_IMPORTS: usize = 500;

/// What the walk over a tree finds, before lines and chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) definitions: Vec<RawDefinition>,
    pub(super) imports: Vec<(Range<usize>, String)>,
    pub(super) comments: Vec<Range<usize>>,
    /// Comments and attributes, which belong to what stands below them.
    pub(super) attached: Vec<Attached>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawDefinition {
    pub(super) name: String,
    pub(super) kind: DefinitionKind,
    pub(super) bytes: Range<usize>,
    pub(super) rows: Range<u32>,
    pub(super) name_row: u32,
    pub(super) body: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) bytes: Range<usize>,
    pub(super) first_row: usize,
    pub(super) last_row: usize,
}

impl Found {
    pub(super) fn comment(&mut self, node: &Node<'_>) {
        self.comments.push(node.byte_range());
        self.attach(node);
    }

    pub(super) fn attach(&mut self, node: &Node<'_>) {
        let (start, end) = (node.start_position(), node.end_position());
        // Some grammars count the line end as part of the comment.
        let last_row = if end.column == 0 && end.row > start.row {
            end.row - 1
        } else {
            end.row
        };
        self.attached.push(Attached {
            bytes: node.byte_range(),
            first_row: start.row,
            last_row,
        });
    }

    pub(super) fn import(&mut self, text: &str, bytes: Range<usize>) {
        let import = &text[bytes.clone()];
        if self.imports.len() < MAX_IMPORTS && import.len() <= 2_000 {
            let words: Vec<&str> = import.split_ascii_whitespace().collect();
            self.imports.push((bytes, words.join(" ")));
        }
    }

    pub(super) fn define(
        &mut self,
        text: &str,
        node: Node<'_>,
        name: Option<Node<'_>>,
        kind: DefinitionKind,
    ) {
        let name_node = name.unwrap_or(node);
        let name = match name {
            Some(name) => text[name.byte_range()].trim(),
            None => node.kind().trim_end_matches("_element"),
        };
        let name: String = name.chars().take(MAX_NAME).collect();
        if name.is_empty() {
            return;
        }
        let end = node.end_position();
        let end_row = if end.column == 0 {
            end.row
        } else {
            end.row + 1
        };
        self.definitions.push(RawDefinition {
            name: name.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            kind,
            bytes: node.byte_range(),
            rows: node.start_position().row as u32..end_row as u32,
            name_row: name_node.start_position().row as u32,
            body: node
                .child_by_field_name("body")
                .map(|body| body.start_byte()),
        });
    }

    /// Drops what an edit cuts or stands beside, and moves what stands behind it.
    pub(super) fn shift(&mut self, edit: &InputEdit) {
        let cut = edit.start_byte..edit.old_end_byte;
        self.forget(&Touched(std::iter::once(cut).collect()));
        let byte = |at: &mut usize| {
            if *at >= edit.old_end_byte {
                *at = *at - edit.old_end_byte + edit.new_end_byte;
            }
        };
        let row_of = |at: usize, is_behind: bool| {
            if is_behind {
                (at + edit.new_end_position.row).saturating_sub(edit.old_end_position.row)
            } else {
                at
            }
        };
        let bytes = |range: &mut Range<usize>| {
            byte(&mut range.start);
            byte(&mut range.end);
        };
        for definition in &mut self.definitions {
            let is_behind = definition.bytes.start >= edit.old_end_byte;
            let row = |at: &mut u32| *at = row_of(*at as usize, is_behind) as u32;
            row(&mut definition.rows.start);
            row(&mut definition.rows.end);
            row(&mut definition.name_row);
            bytes(&mut definition.bytes);
            if let Some(body) = &mut definition.body {
                byte(body);
            }
        }
        for attached in &mut self.attached {
            let is_behind = attached.bytes.start >= edit.old_end_byte;
            attached.first_row = row_of(attached.first_row, is_behind);
            attached.last_row = row_of(attached.last_row, is_behind);
            bytes(&mut attached.bytes);
        }
        self.comments.iter_mut().for_each(&bytes);
        self.imports.iter_mut().for_each(|(range, _)| bytes(range));
    }

    /// Drops what meets a changed range.
    pub(super) fn forget(&mut self, touched: &Touched) {
        self.definitions
            .retain(|definition| !touched.meets(&definition.bytes));
        self.imports.retain(|(bytes, _)| !touched.meets(bytes));
        self.comments.retain(|bytes| !touched.meets(bytes));
        self.attached
            .retain(|attached| !touched.meets(&attached.bytes));
    }

    /// Puts everything in the order of the text, without repeats: a node beside a changed range
    /// can be found by the walk through one that is in it, and be kept as well.
    pub(super) fn sort(&mut self) {
        self.definitions
            .sort_by_key(|d| (d.bytes.start, std::cmp::Reverse(d.bytes.end)));
        drop_repeats(&mut self.definitions);
        self.imports.sort_by_key(|(bytes, _)| bytes.start);
        self.imports.dedup();
        self.comments.sort_by_key(|bytes| (bytes.start, bytes.end));
        self.comments.dedup();
        self.attached
            .sort_by_key(|attached| (attached.bytes.start, attached.bytes.end));
        self.attached.dedup();
    }
}

/// Keeps the first of equal definitions. Those of one range stay in the order the patterns have.
fn drop_repeats(sorted: &mut Vec<RawDefinition>) {
    let mut kept: Vec<RawDefinition> = Vec::with_capacity(sorted.len());
    for definition in sorted.drain(..) {
        let same_range = kept
            .iter()
            .rev()
            .take_while(|other| other.bytes == definition.bytes);
        if !same_range.into_iter().any(|other| *other == definition) {
            kept.push(definition);
        }
    }
    *sorted = kept;
}

/// The bytes of a new text whose nodes may say something else than before.
#[derive(Debug)]
pub(super) struct Touched(Vec<Range<usize>>);

impl Touched {
    /// `old` is the tree before, edited.
    pub(super) fn new(old: &Tree, new: &Tree, edit: &InputEdit) -> Self {
        let changed = old
            .changed_ranges(new)
            .map(|range| range.start_byte..range.end_byte);
        let put_in = edit.start_byte..edit.new_end_byte;
        Self(std::iter::once(put_in).chain(changed).collect())
    }

    /// Returns whether a range overlaps a changed one or has an end in common with it.
    pub(super) fn meets(&self, bytes: &Range<usize>) -> bool {
        self.0
            .iter()
            .any(|touched| bytes.start <= touched.end && touched.start <= bytes.end)
    }
}
