//! Blocks with gaps: parts of old and new text, joined by lines that stand for what is between.
//!
//! Both texts must mark the same gaps. A part that changes must have one place only, given that
//! the parts come in order; what stands in the gaps stays.

use std::rc::Rc;

use super::lines::Key;
use super::{Index, Level, Part, Place};
use crate::edit::elide::mark;
use crate::edit::parse::Block;

pub(super) fn find(index: &Index<'_>, block: &Block) -> Vec<Place> {
    let Some(parts) = parts(block) else {
        return Vec::new();
    };
    let starts: Vec<Vec<usize>> = parts
        .iter()
        .map(|part| {
            let old: Vec<&str> = part.old().map(|l| l.text.as_str()).collect();
            let exact = index.find(Key::Exact, &old, usize::MAX);
            if exact.is_empty() {
                index.find(Key::TrimEnd, &old, usize::MAX)
            } else {
                exact
            }
        })
        .collect();
    let lens: Vec<usize> = parts.iter().map(Block::n_old).collect();
    let Some(feasible) = in_order(&starts, &lens) else {
        return Vec::new();
    };
    let mut placed = Vec::new();
    for (part, starts) in parts.into_iter().zip(feasible) {
        if !part.has_changes() {
            continue;
        }
        match starts[..] {
            [start] => placed.push(Part {
                start,
                block: Rc::new(part),
                left_out: None,
            }),
            _ => return Vec::new(),
        }
    }
    if placed.is_empty() {
        Vec::new()
    } else {
        vec![Place {
            level: Level::Gaps,
            parts: placed,
        }]
    }
}

/// Splits a block at its gaps; `None` when it has none, or not the same ones on both sides.
fn parts(block: &Block) -> Option<Vec<Block>> {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    let new: Vec<&str> = block.new_lines().map(|l| l.text.as_str()).collect();
    let (old, new) = (split(&old), split(&new));
    if old.len() < 2 || old.len() != new.len() {
        return None;
    }
    let mut parts = Vec::new();
    for (old, new) in old.into_iter().zip(new) {
        let (old, new) = without_common_blank_edges(old, new);
        match (old.is_empty(), new.is_empty()) {
            (true, true) => {}
            // New text between two gaps has no place.
            (true, false) => return None,
            (false, _) => parts.push(Block::from_lines(old, new)),
        }
    }
    (!parts.is_empty()).then_some(parts)
}

fn split<'a, 'l>(lines: &'a [&'l str]) -> Vec<&'a [&'l str]> {
    lines.split(|line| mark(line).is_some()).collect()
}

/// Blank lines around a mark belong to the mark as often as to the text.
fn without_common_blank_edges<'a, 'l>(
    mut old: &'a [&'l str],
    mut new: &'a [&'l str],
) -> (&'a [&'l str], &'a [&'l str]) {
    let is_blank = |line: Option<&&str>| line.is_some_and(|l| l.trim().is_empty());
    while is_blank(old.first()) && is_blank(new.first()) {
        (old, new) = (&old[1..], &new[1..]);
    }
    while is_blank(old.last()) && is_blank(new.last()) {
        (old, new) = (&old[..old.len() - 1], &new[..new.len() - 1]);
    }
    (old, new)
}

/// Of the places of each part, keeps those that leave room for all others, in order.
fn in_order(starts: &[Vec<usize>], lens: &[usize]) -> Option<Vec<Vec<usize>>> {
    let mut first_free = Vec::with_capacity(starts.len());
    let mut free = 0;
    for (places, len) in starts.iter().zip(lens) {
        first_free.push(free);
        free = places.iter().find(|&&at| at >= free)? + len;
    }
    let mut feasible = Vec::with_capacity(starts.len());
    let mut limit = usize::MAX;
    for ((places, len), free) in starts.iter().zip(lens).zip(first_free).rev() {
        let kept: Vec<usize> = places
            .iter()
            .copied()
            .filter(|at| *at >= free && at + len <= limit)
            .collect();
        limit = *kept.last()?;
        feasible.push(kept);
    }
    feasible.reverse();
    Some(feasible)
}
