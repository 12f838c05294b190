//! One function for each way to write and to damage an edit.

use std::collections::BTreeMap;

use serde_json::json;

use super::diff::{Diff, Hunk, merge_file, occurrences};
use crate::edits::history::TrueEdit;
use crate::edits::score::{Case, Content, Expected, Must};

type Made = Option<(Case, Expected)>;
type Make = fn(&TrueEdit, &Diff) -> Made;

pub(super) const KINDS: &[(&str, Make)] = &[
    ("diff_exact", |e, d| {
        done(e, unified(e, d, Header::True), unique(d))
    }),
    ("diff_wrong_numbers", |e, d| {
        done(e, unified(e, d, Header::Off), unique(d))
    }),
    ("diff_no_numbers", |e, d| {
        done(e, unified(e, d, Header::Dots), unique(d))
    }),
    ("diff_wrong_counts", |e, d| {
        done(e, unified(e, d, Header::Counts), Must::ApplyOrReject)
    }),
    ("diff_lost_context", lost_context),
    ("diff_bare", |e, d| {
        let bare = Diff {
            hunks: d.bare.clone(),
            ..d.clone()
        };
        done(e, unified(e, &bare, Header::True), Must::ApplyOrReject)
    }),
    ("diff_in_prose", |e, d| {
        let fenced = format!(
            "Here it is:\n\n```diff\n{}```\n\nDone.\n",
            unified(e, d, Header::True)
        );
        // A fence in the file's own lines may end this one.
        let must = if e.before.contains("```") {
            Must::ApplyOrReject
        } else {
            unique(d)
        };
        done(e, fenced, must)
    }),
    ("diff_trailing_blanks", trailing_blanks),
    ("diff_truncated", truncated),
    ("diff_already_applied", |e, d| {
        let there = TrueEdit {
            before: e.after.clone(),
            ..e.clone()
        };
        let (case, _) = done(&there, unified(e, d, Header::True), Must::Reject)?;
        // What is removed may be nothing that is missed, what is added may belong twice, and the
        // lines around may be somewhere else, too.
        let adds = d
            .hunks
            .iter()
            .all(|h| h.lines.iter().filter(|l| l.mark == '+').count() > 2);
        (adds && d.is_unique).then_some((case, refused(Must::Reject)))
    }),
    ("diff_crlf", |e, d| {
        respelled(e, unified(e, d, Header::True), unique(d), |t| {
            t.replace('\n', "\r\n").into_bytes()
        })
    }),
    ("diff_bom", |e, d| {
        respelled(e, unified(e, d, Header::True), unique(d), |t| {
            format!("\u{feff}{t}").into_bytes()
        })
    }),
    ("diff_utf16", |e, d| {
        respelled(e, unified(e, d, Header::True), unique(d), |t| {
            format!("\u{feff}{t}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect()
        })
    }),
    ("diff_stale", stale),
    ("blocks_exact", |e, d| done(e, blocks(e, d), unique(d))),
    ("blocks_dedented", dedented),
    ("blocks_hallucinated", hallucinated),
    ("blocks_ambiguous", ambiguous),
    ("blocks_truncated", |e, d| {
        let answer = blocks(e, d);
        let cut = answer.rfind("\n=======\n")?;
        Some((case(e, answer[..cut + 9].to_owned()), refused(Must::Reject)))
    }),
    ("blocks_overlapping", overlapping),
    ("blocks_elided", elided),
    ("patch_exact", |e, d| {
        done(e, apply_patch(e, d), Must::ApplyOrReject)
    }),
    ("tool_call_exact", |e, d| {
        let [hunk] = &d.hunks[..] else { return None };
        let call = json!({
            "path": e.path,
            "old_string": hunk.old().join("\n"),
            "new_string": hunk.new_lines().join("\n"),
        });
        let is_unique = e.before.matches(&hunk.old().join("\n")).count() == 1;
        done(
            e,
            call.to_string(),
            if is_unique {
                Must::Apply
            } else {
                Must::ApplyOrReject
            },
        )
    }),
];

/// How hunk headers are written.
#[derive(Clone, Copy)]
enum Header {
    True,
    Off,
    Dots,
    Counts,
}

fn case(edit: &TrueEdit, model_output: String) -> Case {
    let original = Content::Text(edit.before.clone());
    Case {
        id: String::new(),
        original: BTreeMap::from([(edit.path.clone(), original)]),
        base: None,
        target: None,
        model_output,
    }
}

fn expected(edit: &TrueEdit, must: Must, after: &[u8]) -> Expected {
    Expected {
        must,
        files: BTreeMap::from([(edit.path.clone(), Some(Content::of(after)))]),
        error: None,
    }
}

fn refused(must: Must) -> Expected {
    Expected {
        must,
        files: BTreeMap::new(),
        error: None,
    }
}

fn done(edit: &TrueEdit, answer: String, must: Must) -> Made {
    // An answer about text that looks like an answer may be read in two ways.
    let must = if speaks_of_edits(edit) {
        Must::ApplyOrReject
    } else {
        must
    };
    Some((
        case(edit, answer),
        expected(edit, must, edit.after.as_bytes()),
    ))
}

fn speaks_of_edits(edit: &TrueEdit) -> bool {
    let marks = [
        "<<<<<<<", ">>>>>>>", "=======", "*** ", "@@ ", "--- ", "+++ ", "```", "SEARCH",
    ];
    marks
        .iter()
        .any(|m| edit.before.contains(m) || edit.after.contains(m))
}

fn unique(diff: &Diff) -> Must {
    // A search for nothing but blank lines is no search.
    let is_blank = |h: &Hunk| h.old().iter().all(|l| l.trim().is_empty());
    if diff.is_unique && !diff.hunks.iter().any(is_blank) {
        Must::Apply
    } else {
        Must::ApplyOrReject
    }
}

fn unified(edit: &TrueEdit, diff: &Diff, header: Header) -> String {
    let mut text = format!("--- a/{0}\n+++ b/{0}\n", edit.path);
    for hunk in &diff.hunks {
        text.push_str(&match header {
            Header::True => hunk.header.clone(),
            Header::Off => "@@ -9001,3 +9001,4 @@".to_owned(),
            Header::Dots => "@@ ... @@".to_owned(),
            Header::Counts => hunk.header.replace(',', ",1"),
        });
        text.push('\n');
        text.push_str(&lines(hunk));
    }
    text
}

fn lines(hunk: &Hunk) -> String {
    let marked = hunk.lines.iter().map(|l| format!("{}{}\n", l.mark, l.text));
    marked.collect()
}

fn blocks(edit: &TrueEdit, diff: &Diff) -> String {
    let hunks = diff
        .hunks
        .iter()
        .map(|h| block(&edit.path, &h.old(), &h.new_lines()));
    hunks.collect()
}

fn block(path: &str, old: &[String], new: &[String]) -> String {
    let text = |lines: &[String]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
    let (old, new) = (text(old), text(new));
    format!("{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n\n")
}

fn apply_patch(edit: &TrueEdit, diff: &Diff) -> String {
    let hunks = diff.hunks.iter().map(|h| format!("@@\n{}", lines(h)));
    let hunks: String = hunks.collect();
    format!(
        "*** Begin Patch\n*** Update File: {}\n{hunks}*** End Patch\n",
        edit.path
    )
}

fn with_hunks(diff: &Diff, change: impl Fn(&mut Hunk)) -> Diff {
    let mut diff = diff.clone();
    diff.hunks.iter_mut().for_each(change);
    diff
}

/// The first context line of every hunk is left out where others are beside it.
fn lost_context(edit: &TrueEdit, diff: &Diff) -> Made {
    let lost = with_hunks(diff, |hunk| {
        if hunk.lines.first().is_some_and(|l| l.mark == ' ') {
            hunk.lines.remove(0);
        }
    });
    done(edit, unified(edit, &lost, Header::Off), Must::ApplyOrReject)
}

/// Context lines get blanks at their ends that the file does not have.
fn trailing_blanks(edit: &TrueEdit, diff: &Diff) -> Made {
    let blanks = with_hunks(diff, |hunk| {
        for line in hunk.lines.iter_mut().filter(|l| l.mark == ' ') {
            line.text.push_str("  ");
        }
    });
    done(
        edit,
        unified(edit, &blanks, Header::True),
        Must::ApplyOrReject,
    )
}

/// The answer stops in the middle of its last added line.
fn truncated(edit: &TrueEdit, diff: &Diff) -> Made {
    let answer = unified(edit, diff, Header::True);
    let at = answer.rfind("\n+")?;
    let line = answer[at + 2..].lines().next()?;
    let cut = line.char_indices().nth(line.chars().count() / 2)?.0;
    (line.len() > 10).then_some(())?;
    Some((
        case(edit, answer[..at + 2 + cut].to_owned()),
        refused(Must::Reject),
    ))
}

/// The file is spelled in another way; so must be the outcome.
fn respelled(edit: &TrueEdit, answer: String, must: Must, spell: fn(&str) -> Vec<u8>) -> Made {
    let must = if speaks_of_edits(edit) {
        Must::ApplyOrReject
    } else {
        must
    };
    let mut case = case(edit, answer);
    let before = Content::of(&spell(&edit.before));
    case.original.insert(edit.path.clone(), before);
    Some((case, expected(edit, must, &spell(&edit.after))))
}

/// The user changed a line of the file after the model read it: the outcome is what git merges, or
/// a refusal where it cannot.
fn stale(edit: &TrueEdit, diff: &Diff) -> Made {
    let mut lines: Vec<&str> = edit.before.lines().collect();
    let at = edit.path.len() * 31 % lines.len();
    lines[at] = "the user wrote this";
    let now = lines.join("\n") + "\n";
    let mut case = case(edit, unified(edit, diff, Header::True));
    case.original
        .insert(edit.path.clone(), Content::Text(now.clone()));
    case.base = Some(json!({ &edit.path: edit.before }));
    let is_found = |h: &Hunk| occurrences(&edit.before.lines().collect::<Vec<_>>(), &h.old()) == 1;
    match merge_file(&now, &edit.before, &edit.after) {
        Some(merged) => {
            let plain = diff.hunks.iter().all(is_found) && !speaks_of_edits(edit);
            let must = if plain {
                Must::Apply
            } else {
                Must::ApplyOrReject
            };
            Some((case, expected(edit, must, merged.as_bytes())))
        }
        None => Some((case, refused(Must::Reject))),
    }
}

/// Everything is written less deep than it stands, by as much as all lines can be.
fn dedented(edit: &TrueEdit, diff: &Diff) -> Made {
    let [hunk] = &diff.hunks[..] else { return None };
    let filled = || {
        hunk.lines
            .iter()
            .map(|l| &l.text)
            .filter(|t| !t.trim().is_empty())
    };
    let depth = filled()
        .map(|t| t.len() - t.trim_start_matches(' ').len())
        .min()?;
    (depth > 0).then_some(())?;
    // Written less deep, a line of blanks is as good as empty: how many it had is not known.
    let is_blanks = |t: &String| !t.is_empty() && t.trim().is_empty();
    let changes_blanks = hunk
        .lines
        .iter()
        .any(|l| l.mark != ' ' && is_blanks(&l.text));
    (!changes_blanks).then_some(())?;
    let strip = |lines: Vec<String>| -> Vec<String> {
        let stripped = lines
            .iter()
            .map(|l| l.get(depth..).unwrap_or_default().to_owned());
        stripped.collect()
    };
    let answer = block(&edit.path, &strip(hunk.old()), &strip(hunk.new_lines()));
    done(edit, answer, Must::ApplyOrReject)
}

/// One of the lines to be found reads otherwise.
fn hallucinated(edit: &TrueEdit, diff: &Diff) -> Made {
    let hunk = diff.hunks.first()?;
    let mut old = hunk.old();
    let at = old.iter().position(|l| l.trim().len() > 8)?;
    old[at].push_str(" // as it never was");
    (old != hunk.new_lines()).then_some(())?;
    Some((
        case(edit, block(&edit.path, &old, &hunk.new_lines())),
        refused(Must::Reject),
    ))
}

/// A line that stands in the file more than once is to be changed, without saying which.
fn ambiguous(edit: &TrueEdit, _: &Diff) -> Made {
    let lines: Vec<&str> = edit.before.lines().collect();
    let line = lines.iter().find(|line| {
        let block = [(**line).to_owned()];
        line.trim().len() > 3 && occurrences(&lines, &block) > 1
    })?;
    (!speaks_of_edits(edit)).then_some(())?;
    let answer = block(&edit.path, &[(*line).to_owned()], &["changed".to_owned()]);
    Some((case(edit, answer), refused(Must::Reject)))
}

/// The same lines are changed twice, to different ends.
fn overlapping(edit: &TrueEdit, diff: &Diff) -> Made {
    let hunk = diff
        .hunks
        .first()
        .filter(|h| h.lines.iter().any(|l| l.mark == '-'))?;
    let mut other = hunk.new_lines();
    other.push("and this".to_owned());
    (!speaks_of_edits(edit) && diff.is_unique).then_some(())?;
    let answer =
        block(&edit.path, &hunk.old(), &hunk.new_lines()) + &block(&edit.path, &hunk.old(), &other);
    Some((case(edit, answer), refused(Must::Reject)))
}

/// The middle of a long run of context is left out, and marked.
fn elided(edit: &TrueEdit, diff: &Diff) -> Made {
    let hunk = diff.hunks.first()?;
    let before: Vec<String> = edit.before.lines().map(str::to_owned).collect();
    let start = before
        .windows(hunk.old().len().max(1))
        .position(|w| w == hunk.old())?;
    (start > 12 && diff.hunks.len() == 1).then_some(())?;
    let head = &before[start - 10..start - 8];
    let side = |lines: Vec<String>| -> Vec<String> {
        head.iter()
            .cloned()
            .chain(["...".to_owned()])
            .chain(lines)
            .collect()
    };
    let answer = block(&edit.path, &side(hunk.old()), &side(hunk.new_lines()));
    done(edit, answer, Must::ApplyOrReject)
}
