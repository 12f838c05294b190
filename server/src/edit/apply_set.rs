//! All edits of one answer to one file: each found, none in another's way, done together.
//!
//! Places are looked for in the file as it is, so the order of edits does not matter. Only blocks
//! that refer to what an earlier block wrote, and tool calls, which are made one after the other,
//! are done in turn.

use std::ops::Range;

use super::elide::find_placeholder;
use super::locate::{self, Headings, Index, Level, MAX_AMBIGUOUS, Place, TextPlace, git_section};
use super::merge::diff;
use super::parse::{BareInsert, Block, Edit, Hints, LineKind, Op};
use super::text::{Breaks, Change, MAX_FILE, NewLine, Splice, Text};
use super::{Kind, Refusal};

/// Places that a text is replaced in at most.
const MAX_REPLACED: usize = 1_000_000;

/// A file's new bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub bytes: Vec<u8>,
    pub changes: Vec<Change>,
    /// How each block was found, in the order of the answer.
    pub levels: Vec<Level>,
}

/// One edit and where it goes.
struct Placed<'e> {
    edit: &'e Edit,
    hints: &'e Hints,
    places: Vec<Place>,
    /// New lines without any old ones.
    insertion: Option<Splice>,
}

/// Does `edits` (of lines, text or ranges) to a file.
///
/// # Errors
/// A [`Refusal`] for the first edit that cannot be done, or for two that overlap.
pub fn apply(bytes: &[u8], edits: &[&Edit], is_python: bool) -> Result<Done, Refusal> {
    let decode = |breaks| {
        Text::decode(bytes.to_vec(), breaks)
            .map_err(|why| Refusal::new(Kind::Other, format!("the file {why}")))
    };
    let text = decode(Breaks::Lf)?;
    match apply_to(&text, edits, is_python) {
        Err(why) if why.kind == Kind::NoMatch && text.has_lone_cr() => {
            apply_to(&decode(Breaks::LfOrCr)?, edits, is_python).map_err(|_| why)
        }
        done => done,
    }
}

fn apply_to(text: &Text, edits: &[&Edit], is_python: bool) -> Result<Done, Refusal> {
    let is_text = |e: &&Edit| matches!(e.op, Op::Text { .. });
    if edits.iter().copied().any(|e| is_text(&e)) {
        if edits.iter().any(|e| matches!(e.op, Op::Range { .. })) && edits.len() > 1 {
            return Err(Refusal::new(
                Kind::Malformed,
                "edits by line number cannot be mixed with edits by text in one answer",
            ));
        }
        return in_turn(text, edits, is_python);
    }
    match together(text, edits, is_python) {
        Err(why)
            if why.kind == Kind::NoMatch
                && edits.len() > 1
                && edits.iter().all(|e| may_follow(e)) =>
        {
            in_turn(text, edits, is_python).map_err(|_| why)
        }
        done => done,
    }
}

/// Whether the edit may refer to what one before it wrote. Hunks of a diff never do.
fn may_follow(edit: &Edit) -> bool {
    matches!(&edit.op, Op::Lines { hints, .. } if !hints.marks_context)
}

fn in_turn(text: &Text, edits: &[&Edit], is_python: bool) -> Result<Done, Refusal> {
    let mut now = text.clone();
    let mut levels = Vec::new();
    for edit in edits {
        let (bytes, found) = match &edit.op {
            Op::Text { old, new, all } => replace_text(&now, old, new, *all, is_python)?,
            Op::Lines { .. } | Op::Range { .. } => {
                let done = together(&now, std::slice::from_ref(edit), is_python)?;
                (done.bytes, done.levels)
            }
            Op::Create { .. }
            | Op::Write { .. }
            | Op::Delete { .. }
            | Op::Rename { .. }
            | Op::Mode { .. } => {
                continue;
            }
        };
        levels.extend(found);
        now = Text::decode(bytes, Breaks::Lf)
            .map_err(|why| Refusal::new(Kind::Other, format!("the file {why}")))?;
    }
    let changes = diff(&text.raw_lines(), &now.raw_lines());
    Ok(Done {
        bytes: now.bytes().to_vec(),
        changes,
        levels,
    })
}

/// Does one tool call: text that is found byte for byte, else line by line.
fn replace_text(
    text: &Text,
    old: &str,
    new: &str,
    all: bool,
    is_python: bool,
) -> Result<(Vec<u8>, Vec<Level>), Refusal> {
    let old = old.replace("\r\n", "\n");
    let new = new.replace("\r\n", "\n");
    if old == new {
        return Err(Refusal::new(
            Kind::NoChange,
            "old and new text are the same",
        ));
    }
    if text.n_lines() == 0 && old.trim().is_empty() {
        let whole = TextPlace { range: 0..0, new }.splices(text);
        return Ok((write(text, &whole)?, vec![Level::Exact]));
    }
    let most = match all {
        true => MAX_REPLACED + 1,
        false => MAX_AMBIGUOUS,
    };
    let places = locate::find_text(text, &old, &new, most);
    let found = match &places.ranges[..] {
        [] => {
            let block = lines_of_text(&old, &new).ok_or_else(|| {
                locate::no_match(text, &Block::from_lines(&split(&old), &split(&new)))
            })?;
            let edit = Edit {
                path: None,
                line: 0,
                op: Op::Lines {
                    readings: vec![block],
                    hints: Hints::default(),
                },
            };
            let done = together(text, &[&edit], is_python)?;
            return Ok((done.bytes, done.levels));
        }
        [only] => only.clone(),
        ranges if all => return replace_all(text, ranges, &places.new),
        ranges => {
            let lines: Vec<usize> = ranges.iter().map(|r| text.line_at(r.start) + 1).collect();
            return Err(locate::ambiguous_lines(&lines));
        }
    };
    // The new text may be the old with more around it, and stand there already. If it had the old
    // more than once, so would the file.
    let mut inside = new.match_indices(old.as_str());
    if let (Some((at, _)), None) = (inside.next(), inside.next())
        && let Some(start) = found.start.checked_sub(at)
        && text.content().as_bytes()[start..].starts_with(new.as_bytes())
    {
        return Err(already_applied());
    }
    let place = TextPlace {
        range: found,
        new: places.new,
    };
    let splices = place.splices(text);
    check_added(&Index::new(text), &splices, is_python)?;
    Ok((write(text, &splices)?, vec![Level::Exact]))
}

/// Puts the new text in every place that does not overlap the one before it.
fn replace_all(
    text: &Text,
    places: &[Range<usize>],
    new: &str,
) -> Result<(Vec<u8>, Vec<Level>), Refusal> {
    if places.len() > MAX_REPLACED {
        return Err(Refusal::new(
            Kind::Other,
            format!("the text to change is in the file more than {MAX_REPLACED} times"),
        ));
    }
    let (mut n_bytes, mut free) = (text.content().len(), 0);
    for range in places {
        if range.start >= free {
            n_bytes = n_bytes - range.len() + new.len();
            free = range.end;
        }
    }
    if n_bytes > MAX_FILE {
        return Err(Refusal::new(
            Kind::Other,
            format!("the file would be larger than {} MiB", MAX_FILE >> 20),
        ));
    }
    let mut splices: Vec<Splice> = Vec::new();
    // Places that share lines are done in one splice.
    let mut group: Option<TextPlace> = None;
    for place in places {
        match &mut group {
            Some(open) if place.start < open.range.end => {}
            Some(open) if text.line_at(place.start) <= text.line_at(open.range.end) => {
                open.new
                    .push_str(&text.content()[open.range.end..place.start]);
                open.new.push_str(new);
                open.range.end = place.end;
            }
            _ => {
                splices.extend(group.take().into_iter().flat_map(|done| done.splices(text)));
                group = Some(TextPlace {
                    range: place.clone(),
                    new: new.to_owned(),
                });
            }
        }
    }
    splices.extend(group.into_iter().flat_map(|done| done.splices(text)));
    Ok((write(text, &splices)?, vec![Level::Exact]))
}

fn write(text: &Text, splices: &[Splice]) -> Result<Vec<u8>, Refusal> {
    match text.apply(splices) {
        Ok((bytes, _)) => Ok(bytes),
        Err(why) => Err(Refusal::new(Kind::Other, why.to_string())),
    }
}

fn split(text: &str) -> Vec<&str> {
    text.split('\n').collect()
}

/// Reads the texts of a tool call as whole lines; `None` when they end in different ways.
fn lines_of_text(old: &str, new: &str) -> Option<Block> {
    let (mut old_lines, mut new_lines) = (split(old), split(new));
    if old.ends_with('\n') {
        old_lines.pop();
        match new_lines.pop() {
            Some("") => {}
            _ => return None,
        }
    } else if new.is_empty() {
        new_lines.clear();
    }
    Some(Block::from_lines(&old_lines, &new_lines))
}

fn together(text: &Text, edits: &[&Edit], is_python: bool) -> Result<Done, Refusal> {
    let index = Index::new(text);
    let mut placed: Vec<Placed<'_>> = Vec::new();
    let mut splices: Vec<(Range<usize>, Splice, usize)> = Vec::new();
    for (order, edit) in edits.iter().enumerate() {
        match &edit.op {
            Op::Lines { readings, hints } => {
                let unchanged = readings.iter().all(|b| !b.has_changes());
                if !unchanged {
                    placed.push(find(&index, edit, readings, hints)?);
                }
            }
            Op::Range { first, last, new } => {
                let splice = range(text, *first, *last, new)?;
                splices.push((splice.lines.clone(), splice, order));
            }
            Op::Text { .. }
            | Op::Create { .. }
            | Op::Write { .. }
            | Op::Delete { .. }
            | Op::Rename { .. }
            | Op::Mode { .. } => {}
        }
    }
    settle(&index, &mut placed)?;
    let mut levels = Vec::new();
    for (order, item) in placed.iter().enumerate() {
        match (&item.insertion, item.places.first()) {
            (Some(splice), _) => splices.push((splice.lines.clone(), splice.clone(), order)),
            (None, Some(place)) => {
                check_not_there(&index, place)?;
                levels.push(place.level);
                for part in &place.parts {
                    let whole = part.start..part.end();
                    let single = Place {
                        level: place.level,
                        parts: vec![part.clone()],
                    };
                    splices.extend(
                        single
                            .splices()
                            .into_iter()
                            .map(|s| (whole.clone(), s, order)),
                    );
                }
            }
            (None, None) => {}
        }
    }
    check_overlaps(&splices)?;
    splices.sort_by_key(|(_, s, order)| (s.lines.start, s.lines.end, *order));
    let splices: Vec<Splice> = splices.into_iter().map(|(_, splice, _)| splice).collect();
    check_added(&index, &splices, is_python)?;
    let (bytes, changes) = text
        .apply(&splices)
        .map_err(|why| Refusal::new(Kind::Other, why.to_string()))?;
    Ok(Done {
        bytes,
        changes,
        levels,
    })
}

/// Finds the places of one block; more than one are left for [`settle`].
fn find<'e>(
    index: &Index<'_>,
    edit: &'e Edit,
    readings: &[Block],
    hints: &'e Hints,
) -> Result<Placed<'e>, Refusal> {
    let mut places = locate::find(index, readings, hints)?;
    if readings.iter().all(|b| b.n_old() == 0) {
        return Ok(Placed {
            edit,
            hints,
            places,
            insertion: None,
        });
    }
    if places.is_empty() {
        if is_any_there_already(index, readings)? {
            return Err(already_applied());
        }
        return Err(locate::no_match(index.text(), &readings[0]));
    }
    // A place that is almost right may be another one, if the right one is done already.
    let is_lax = |p: &Place| p.level == Level::OneContextLine;
    if places.iter().any(is_lax) && is_any_there_already(index, readings)? {
        return Err(already_applied());
    }
    if hints.at_end {
        places.retain(|p| p.end() == index.text().n_lines());
        if places.is_empty() {
            return Err(Refusal::new(
                Kind::TruncatedOutput,
                "the last hunk has fewer lines than its header says; the answer may have been cut",
            ));
        }
    }
    if let [only] = &places[..]
        && hints.marks_context
        && hints.line.is_none()
        && Headings::find(index.text(), &hints.headings).contradict(only)
    {
        return Err(Refusal::new(
            Kind::NoMatch,
            format!(
                "the text to change is not below {:?}, only on line {}",
                hints.headings.last().map_or("", String::as_str),
                only.start() + 1
            ),
        ));
    }
    Ok(Placed {
        edit,
        hints,
        places,
        insertion: None,
    })
}

/// Leaves every edit one place, with the help of what is known about the others.
fn settle(index: &Index<'_>, placed: &mut [Placed<'_>]) -> Result<(), Refusal> {
    loop {
        let offset = common_offset(placed);
        let mut progress = false;
        for idx in 0..placed.len() {
            if placed[idx].places.len() < 2 {
                continue;
            }
            if let Some(place) = choose(index, placed, idx, offset) {
                placed[idx].places = vec![place];
                progress = true;
            }
        }
        if !progress {
            break;
        }
    }
    let offset = common_offset(placed);
    for item in placed.iter_mut() {
        if item.places.len() > 1 {
            return Err(locate::ambiguous(&item.places));
        }
        if item.places.is_empty() {
            item.insertion = Some(insertion(index, item, offset)?);
        }
    }
    Ok(())
}

/// By how many lines places differ from their hints, if all of them differ by the same.
///
/// `Some(None)` when nothing is known yet, `None` when the hints contradict each other.
fn common_offset(placed: &[Placed<'_>]) -> Option<Option<isize>> {
    let mut common = None;
    for item in placed {
        let ([place], Some(hint)) = (&item.places[..], item.hints.line) else {
            continue;
        };
        let offset = place.start().cast_signed() - (hint.cast_signed() - 1);
        if *common.get_or_insert(offset) != offset {
            return None;
        }
    }
    Some(common)
}

fn choose(
    index: &Index<'_>,
    placed: &[Placed<'_>],
    idx: usize,
    offset: Option<Option<isize>>,
) -> Option<Place> {
    let item = &placed[idx];
    let mut places: Vec<&Place> = item.places.iter().collect();
    if item.hints.marks_context {
        // Hunks of a file are in its order.
        let single = |p: &Placed<'_>| match &p.places[..] {
            [place] => Some((place.start(), place.end())),
            _ => None,
        };
        let above = placed[..idx]
            .iter()
            .rev()
            .find_map(single)
            .map_or(0, |(_, end)| end);
        let below = placed[idx + 1..]
            .iter()
            .find_map(single)
            .map_or(usize::MAX, |(start, _)| start);
        places.retain(|p| p.start() >= above && p.end() <= below);
    }
    if let [only] = &places[..] {
        return Some((*only).clone());
    }
    if let (Some(hint), Some(offset)) = (item.hints.line, offset) {
        let wanted = (hint.cast_signed() - 1 + offset.unwrap_or_default()).cast_unsigned();
        if let Some(place) = places.iter().find(|p| p.start() == wanted) {
            return Some((*place).clone());
        }
    }
    Headings::find(index.text(), &item.hints.headings).choose(&places)
}

/// Where lines go that come without any old line.
fn insertion(
    index: &Index<'_>,
    item: &Placed<'_>,
    offset: Option<Option<isize>>,
) -> Result<Splice, Refusal> {
    let Op::Lines { readings, .. } = &item.edit.op else {
        return Err(Refusal::new(Kind::Other, "the edit has no place"));
    };
    let text = index.text();
    let new: Vec<NewLine> = readings[0]
        .new_lines()
        .map(|l| NewLine::new(l.text.clone()))
        .collect();
    let n_new = new.len();
    let at = match item.hints.bare_insert {
        BareInsert::BelowHeading if item.hints.headings.is_empty() => Some(text.n_lines()),
        BareInsert::BelowHeading => Headings::find(text, &item.hints.headings)
            .only()
            .map(|heading| heading + 1),
        BareInsert::AfterLine => item.hints.line.filter(|&line| {
            let others_agree = offset == Some(Some(0));
            let titled = item
                .hints
                .headings
                .first()
                .is_some_and(|s| git_section(text, line, s));
            line <= text.n_lines() && (others_agree || titled)
        }),
        BareInsert::Refused => None,
    };
    let Some(at) = at else {
        return Err(Refusal::new(
            Kind::AmbiguousMatch,
            "lines are added without saying where; write the lines above or below them as context",
        ));
    };
    let is_there =
        at + n_new <= text.n_lines() && (0..n_new).all(|i| text.line(at + i) == new[i].text);
    if is_there && item.hints.bare_insert == BareInsert::BelowHeading {
        return Err(already_applied());
    }
    // Whether new last lines are ended is not said, and the file's own last line was not.
    if at == text.n_lines() && !text.is_ended() {
        return Err(Refusal::new(
            Kind::Other,
            "the file does not end with a line end; write its last line as context to add lines below it",
        ));
    }
    Ok(Splice { lines: at..at, new })
}

fn range(text: &Text, first: usize, last: usize, new: &str) -> Result<Splice, Refusal> {
    if first == 0 || last > text.n_lines() || first > last + 1 {
        return Err(Refusal::new(
            Kind::NoMatch,
            format!(
                "lines {first} to {last} are not in the file, which has {}",
                text.n_lines()
            ),
        ));
    }
    let new = new.strip_suffix('\n').unwrap_or(new);
    let lines: Vec<NewLine> = match new {
        "" if first <= last => Vec::new(),
        _ => new
            .split('\n')
            .map(|l| NewLine::new(l.strip_suffix('\r').unwrap_or(l)))
            .collect(),
    };
    Ok(Splice {
        lines: first - 1..last,
        new: lines,
    })
}

/// Whether the file has the new text of one of the readings, so that nothing is left to do.
fn is_any_there_already(index: &Index<'_>, readings: &[Block]) -> Result<bool, Refusal> {
    for block in readings {
        if is_there_already(index, block)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_there_already(index: &Index<'_>, block: &Block) -> Result<bool, Refusal> {
    let adds_text = block
        .lines
        .iter()
        .any(|l| l.kind == LineKind::Added && !l.text.trim().is_empty());
    let new: Vec<_> = block
        .new_lines()
        .cloned()
        .map(|l| super::parse::BlockLine {
            kind: LineKind::Context,
            ..l
        })
        .collect();
    let probe = Block { lines: new };
    Ok(adds_text && !locate::find(index, &[probe], &Hints::default())?.is_empty())
}

/// Refuses lines that stand already where they are to be inserted.
fn check_not_there(index: &Index<'_>, place: &Place) -> Result<(), Refusal> {
    let text = index.text();
    for part in place
        .parts
        .iter()
        .filter(|p| !p.block.has(LineKind::Removed) && p.left_out.is_none())
    {
        let new: Vec<&str> = part.block.new_lines().map(|l| l.text.as_str()).collect();
        let n_added = new.len() - part.block.n_old();
        let earliest = part.start.saturating_sub(n_added);
        let stands = (earliest..=part.start).any(|at| {
            at + new.len() >= part.end()
                && at + new.len() <= text.n_lines()
                && new
                    .iter()
                    .enumerate()
                    .all(|(i, line)| text.line(at + i).trim_end() == line.trim_end())
        });
        if stands {
            return Err(already_applied());
        }
    }
    Ok(())
}

/// Refuses edits that change lines another edit was found by.
fn check_overlaps(splices: &[(Range<usize>, Splice, usize)]) -> Result<(), Refusal> {
    let mut sorted: Vec<&(Range<usize>, Splice, usize)> = splices.iter().collect();
    sorted.sort_by_key(|(whole, ..)| whole.start);
    let touches = |splice: &Splice, whole: &Range<usize>| {
        let lines = &splice.lines;
        if lines.is_empty() {
            whole.start < lines.start && lines.start < whole.end
        } else {
            lines.start < whole.end && whole.start < lines.end
        }
    };
    for (idx, (whole, splice, order)) in sorted.iter().enumerate() {
        for (other_whole, other, other_order) in sorted[idx + 1..]
            .iter()
            .take_while(|o| o.0.start < whole.end)
        {
            if order != other_order && (touches(splice, other_whole) || touches(other, whole)) {
                return Err(Refusal::new(
                    Kind::OverlappingEdits,
                    format!(
                        "two edits change the same lines, around line {}",
                        other.lines.start + 1
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Refuses new lines that stand for left-out text.
fn check_added(index: &Index<'_>, splices: &[Splice], is_python: bool) -> Result<(), Refusal> {
    let added = splices.iter().flat_map(|s| &s.new).map(|l| l.text.as_str());
    match find_placeholder(added, |line| index.has_line(line), is_python) {
        Some(line) => Err(placeholder(line)),
        None => Ok(()),
    }
}

pub(super) fn placeholder(line: &str) -> Refusal {
    Refusal::new(
        Kind::Malformed,
        format!(
            "{:?} stands for code that was left out; write that code",
            line.trim()
        ),
    )
}

fn already_applied() -> Refusal {
    Refusal::new(Kind::AlreadyApplied, "the file has the new text already")
}

#[cfg(test)]
mod tests;
