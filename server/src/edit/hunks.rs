//! Proposed changes as hunks that are accepted or rejected one by one.
//!
//! Holds: a hunk's id says what it changes and stays the same as long as that does. A file's text
//! with any choice of its hunks is made from the text the proposal was made for, and then merged
//! with whatever the file is by now; where somebody else changed the same lines the hunk is a
//! conflict, and nothing is written for it.
//! Not here: writing (`transaction`), keeping proposals (`workspace`).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::Mode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::follow::Followed;
use super::journal::{Image, World};
use super::merge::{Adjacent, Side, diff, merge};
use super::path::RepoPath;
use super::plan::{FilePlan, Plan};
use super::spelling::{self, decode};
use super::text::{Change, Inexpressible, Text};

/// Lines of a conflict that are quoted at most, and bytes of each side.
const QUOTED_LINES: usize = 40;

/// What an author wants changed, hunk by hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub id: String,
    pub author: String,
    /// The step of the author's task, if there is one.
    pub step: Option<String>,
    pub files: Vec<ProposedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedFile {
    pub path: RepoPath,
    pub moved_from: Option<RepoPath>,
    pub before: Option<Bytes>,
    pub after: Option<Bytes>,
    /// The executable bit, before and after.
    pub executable: (bool, bool),
    pub hunks: Vec<Hunk>,
}

/// Bytes that are written as base64 where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    pub id: String,
    pub what: What,
    pub state: HunkState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Line ranges of the file before and after.
    Lines(Change),
    Create,
    Delete,
    Move,
    Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HunkState {
    Pending,
    Accepted,
    Rejected,
}

/// A file as one choice of hunks makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub path: RepoPath,
    /// `None` where no file is.
    pub bytes: Option<Vec<u8>>,
    pub is_executable: bool,
}

/// Lines that somebody else changed where a hunk, or its taking back, would change them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    pub path: RepoPath,
    /// The hunks, where the conflict is one of a proposal.
    pub hunks: Vec<String>,
    /// Lines of the file as it is, from zero.
    pub lines: Range<usize>,
    /// The lines as they were when the hunk was made, as they are, and as they would be.
    pub base: String,
    pub current: String,
    pub proposed: String,
}

/// The outcome of carrying a change over to the text as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The new text; where there are conflicts, what is there now stays.
    pub bytes: Vec<u8>,
    pub conflicts: Vec<Conflict>,
}

impl Proposal {
    /// Makes a proposal of a plan.
    pub fn new(plan: Plan, author: String, step: Option<String>) -> Self {
        Self {
            id: format!("p_{}", uuid::Uuid::now_v7().simple()),
            author,
            step,
            files: plan.files.into_iter().map(ProposedFile::new).collect(),
        }
    }

    pub fn hunks(&self) -> impl Iterator<Item = (&ProposedFile, &Hunk)> {
        self.files
            .iter()
            .flat_map(|file| file.hunks.iter().map(move |hunk| (file, hunk)))
    }

    /// Bytes of all its files, before and after.
    pub fn n_bytes(&self) -> usize {
        let bytes = self.files.iter().flat_map(|f| [&f.before, &f.after]);
        bytes.flatten().map(|bytes| bytes.0.len()).sum()
    }

    /// Whether a hunk is undecided.
    pub fn is_open(&self) -> bool {
        self.hunks().any(|(_, h)| h.state == HunkState::Pending)
    }
}

impl ProposedFile {
    fn new(file: FilePlan) -> Self {
        let mut hunks: Vec<Hunk> = Vec::new();
        let mut add = |id: String, what: What| {
            let n_same = hunks.iter().filter(|h| h.id.starts_with(&id)).count();
            let id = if n_same == 0 {
                id
            } else {
                format!("{id}_{n_same}")
            };
            hunks.push(Hunk {
                id,
                what,
                state: HunkState::Pending,
            });
        };
        let path = file.path.as_str();
        if let Some(from) = &file.moved_from {
            add(
                id_of(path, "move", from.as_str().as_bytes(), b""),
                What::Move,
            );
        }
        if file.executable.0 != file.executable.1 && file.before.is_some() {
            add(id_of(path, "mode", b"", b""), What::Mode);
        }
        match (&file.before, &file.after) {
            (None, Some(after)) => add(id_of(path, "create", b"", after), What::Create),
            (Some(before), None) => add(id_of(path, "delete", before, b""), What::Delete),
            (Some(before), Some(after)) => {
                if let (Some(before), Some(after)) = (decode(before), decode(after)) {
                    let (before_lines, after_lines) = (before.raw_lines(), after.raw_lines());
                    let changes = fitting(&file.changes, &before_lines, &after_lines)
                        .unwrap_or_else(|| diff(&before_lines, &after_lines));
                    for change in changes {
                        let old = before.raw(change.before.clone());
                        let new = after.raw(change.after.clone());
                        add(id_of(path, "lines", old, new), What::Lines(change));
                    }
                }
            }
            (None, None) => {}
        }
        Self {
            path: file.path,
            moved_from: file.moved_from,
            before: file.before.map(Bytes),
            after: file.after.map(Bytes),
            executable: file.executable,
            hunks,
        }
    }

    /// Whether its hunks are to be seen at `path`: where the file is, or where it is moved from.
    pub fn is_about(&self, path: &RepoPath) -> bool {
        self.path == *path || self.moved_from.as_ref() == Some(path)
    }

    /// The file with its texts spelled as it is spelled `now`, in that `world`, where that is another
    /// spelling than that of `from`, one of its versions: it was open in an editor then and is not
    /// now, or the other way round. A change of the spelling itself is left as it is.
    ///
    /// # Errors
    /// [`Inexpressible`] when the encoding of `now` lacks a character.
    pub fn spelled_like(
        &self,
        from: &Version,
        world: World,
        now: &[u8],
    ) -> Result<Cow<'_, Self>, Inexpressible> {
        let as_it_is = Cow::Borrowed(self);
        let is_document = world == World::Document;
        let from = from.bytes.as_deref().and_then(decode);
        let (Some(from), Some(now)) = (from, decode(now)) else {
            return Ok(as_it_is);
        };
        if now.bytes().is_empty() && !is_document {
            return Ok(as_it_is);
        }
        let read = |bytes: &Option<Bytes>| bytes.as_ref().and_then(|b| decode(&b.0));
        let (before, after) = (read(&self.before), read(&self.after));
        let is_change = match (&before, &after) {
            (Some(before), Some(after)) => !spelling::may_be_same(before, after),
            (None, _) | (_, None) => false,
        };
        let is_text =
            before.is_some() == self.before.is_some() && after.is_some() == self.after.is_some();
        // The version that is in may be ASCII, where the other one tells the encoding.
        let is_foreign = |text: &Option<Text>| {
            is_document
                && text
                    .as_ref()
                    .is_some_and(|t| t.encoding() != now.encoding())
        };
        let is_same = spelling::is_same(&from, &now) && !is_foreign(&before) && !is_foreign(&after);
        if is_same || is_change || !is_text {
            return Ok(as_it_is);
        }
        let spelled = |text: Option<Text>| {
            let bytes = text.map(|text| spelling::text_like(&now, &text));
            bytes.transpose().map(|bytes| bytes.map(Bytes))
        };
        Ok(Cow::Owned(Self {
            before: spelled(before)?,
            after: spelled(after)?,
            ..self.clone()
        }))
    }

    /// Makes the file with just the hunks for which `chosen` holds.
    pub fn with(&self, chosen: impl Fn(&Hunk) -> bool) -> Version {
        let has = |what: &What| self.hunks.iter().any(|h| h.what == *what && chosen(h));
        let bytes = match (&self.before, &self.after) {
            (None, after) => after
                .as_ref()
                .filter(|_| has(&What::Create))
                .map(|b| b.0.clone()),
            (Some(before), None) => (!has(&What::Delete)).then(|| before.0.clone()),
            (Some(before), Some(after)) => Some(self.compose(&before.0, &after.0, &chosen).0),
        };
        let is_moved = has(&What::Move);
        Version {
            path: match &self.moved_from {
                Some(from) if !is_moved => from.clone(),
                _ => self.path.clone(),
            },
            bytes,
            is_executable: if has(&What::Mode) || has(&What::Create) {
                self.executable.1
            } else {
                self.executable.0
            },
        }
    }

    /// The text with the chosen hunks, and where each line hunk is in it.
    fn compose(
        &self,
        before: &[u8],
        after: &[u8],
        chosen: &impl Fn(&Hunk) -> bool,
    ) -> (Vec<u8>, Vec<Range<usize>>) {
        let (Some(old), Some(new)) = (decode(before), decode(after)) else {
            return (before.to_vec(), Vec::new());
        };
        let mut bytes = old.bom().to_vec();
        let mut places = Vec::new();
        let (mut at, mut n_lines) = (0, 0);
        for hunk in &self.hunks {
            let What::Lines(change) = &hunk.what else {
                places.push(0..0);
                continue;
            };
            bytes.extend_from_slice(old.raw(at..change.before.start));
            n_lines += change.before.start - at;
            let n_here = if chosen(hunk) {
                bytes.extend_from_slice(new.raw(change.after.clone()));
                change.after.len()
            } else {
                bytes.extend_from_slice(old.raw(change.before.clone()));
                change.before.len()
            };
            places.push(n_lines..n_lines + n_here);
            n_lines += n_here;
            at = change.before.end;
        }
        bytes.extend_from_slice(old.raw(at..old.n_lines()));
        (bytes, places)
    }

    /// Carries the step from one choice of hunks to another over to the text as it is now.
    ///
    /// `followed` is what happened since the text was as `from` makes it, where that is known.
    pub fn carry(
        &self,
        now: &[u8],
        followed: Option<&Followed>,
        from: impl Fn(&Hunk) -> bool,
        to: impl Fn(&Hunk) -> bool,
    ) -> Carried {
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return Carried {
                bytes: now.to_vec(),
                conflicts: Vec::new(),
            };
        };
        let (base, base_places) = self.compose(&before.0, &after.0, &from);
        let (theirs, their_places) = self.compose(&before.0, &after.0, &to);
        let mut changes = Vec::new();
        let mut of_change = Vec::new();
        for (idx, hunk) in self.hunks.iter().enumerate() {
            if matches!(hunk.what, What::Lines(_)) && from(hunk) != to(hunk) {
                changes.push(Change {
                    before: base_places[idx].clone(),
                    after: their_places[idx].clone(),
                });
                of_change.push(hunk.id.clone());
            }
        }
        let (bytes, conflicts) = carry_over(
            &self.path,
            &base,
            now,
            &theirs,
            Some(changes.clone()),
            followed,
        );
        let with_hunks = conflicts.into_iter().map(|(base, conflict)| {
            let touches = |c: &Change| c.before.start <= base.end && base.start <= c.before.end;
            let of_it = changes.iter().zip(&of_change).filter(|(c, _)| touches(c));
            Conflict {
                hunks: of_it.map(|(_, id)| id.clone()).collect(),
                ..conflict
            }
        });
        Carried {
            bytes,
            conflicts: with_hunks.collect(),
        }
    }

    /// Finds where each line hunk is in the text as it is now: its lines, and whether somebody
    /// changed them since. Hunks that `applied` holds for are in the text.
    pub fn places(
        &self,
        now: &[u8],
        followed: Option<&Followed>,
        applied: impl Fn(&Hunk) -> bool,
    ) -> Vec<(usize, Range<usize>, bool)> {
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return Vec::new();
        };
        let (base, places) = self.compose(&before.0, &after.0, &applied);
        let (Some(base), Some(now)) = (decode(&base), decode(now)) else {
            return Vec::new();
        };
        let (base_lines, now_lines) = (base.raw_lines(), now.raw_lines());
        let changes = match followed {
            Some(followed) => followed.changes(&base_lines, &now_lines),
            None => diff(&base_lines, &now_lines),
        };
        let mut found = Vec::new();
        for (idx, hunk) in self.hunks.iter().enumerate() {
            let What::Lines(_) = hunk.what else { continue };
            let place = &places[idx];
            let is_edited = changes.iter().any(|c| touch(&c.before, place));
            let shifted = |line: usize, is_end: bool| {
                let passed = changes.iter().take_while(|c| {
                    c.before.end < line || c.before.end == line && (!is_end || !c.before.is_empty())
                });
                let passed: Vec<&Change> = passed.collect();
                match passed.last() {
                    Some(last) => line - last.before.end + last.after.end,
                    None => line,
                }
            };
            let start = shifted(place.start, false).min(now_lines.len());
            let end = if place.is_empty() {
                start
            } else {
                shifted(place.end, true).clamp(start, now_lines.len())
            };
            found.push((idx, start..end, is_edited));
        }
        found
    }
}

/// Whether two changes of lines are about the same place. Those of neighbouring lines are not.
pub(super) fn touch(a: &Range<usize>, b: &Range<usize>) -> bool {
    if a.is_empty() || b.is_empty() {
        a.start > b.start && a.start < b.end
            || b.start > a.start && b.start < a.end
            || a.is_empty() && b.is_empty() && a.start == b.start
    } else {
        a.start < b.end && b.start < a.end
    }
}

/// Does to `now` what leads from `base` to `theirs`; conflicts come with their lines of the base.
pub(super) fn carry_over(
    path: &RepoPath,
    base: &[u8],
    now: &[u8],
    theirs: &[u8],
    their_changes: Option<Vec<Change>>,
    followed: Option<&Followed>,
) -> (Vec<u8>, Vec<(Range<usize>, Conflict)>) {
    if base == now {
        return (theirs.to_vec(), Vec::new());
    }
    let texts = (decode(base), decode(now), decode(theirs));
    let (Some(base), Some(ours), Some(theirs)) = texts else {
        let conflict = Conflict {
            path: path.clone(),
            hunks: Vec::new(),
            lines: 0..0,
            base: String::new(),
            current: String::new(),
            proposed: String::new(),
        };
        return (now.to_vec(), vec![(0..usize::MAX, conflict)]);
    };
    let (base_lines, our_lines, their_lines) =
        (base.raw_lines(), ours.raw_lines(), theirs.raw_lines());
    let our_changes = match followed {
        Some(followed) => followed.changes(&base_lines, &our_lines),
        None => diff(&base_lines, &our_lines),
    };
    let their_changes = their_changes.unwrap_or_else(|| diff(&base_lines, &their_lines));
    let merged = merge(
        base_lines.len(),
        Side {
            lines: &our_lines,
            changes: &our_changes,
        },
        Side {
            lines: &their_lines,
            changes: &their_changes,
        },
        Adjacent::Separate,
    );
    let quote = |text: &Text, lines: &Range<usize>| {
        let quoted = lines.clone().take(QUOTED_LINES).map(|i| text.line(i));
        quoted.collect::<Vec<_>>().join("\n")
    };
    let conflicts = merged.conflicts.iter().map(|c| {
        let conflict = Conflict {
            path: path.clone(),
            hunks: Vec::new(),
            lines: c.ours.clone(),
            base: quote(&base, &c.base),
            current: quote(&ours, &c.ours),
            proposed: quote(&theirs, &c.theirs),
        };
        (c.base.clone(), conflict)
    });
    let conflicts = conflicts.collect();
    ([ours.bom(), &merged.bytes].concat(), conflicts)
}

/// The planned changes without the lines that stay the same, if they do lead from one text to the
/// other.
fn fitting(changes: &[Change], before: &[&[u8]], after: &[&[u8]]) -> Option<Vec<Change>> {
    let mut followed = Vec::with_capacity(changes.len());
    let (mut b, mut a) = (0, 0);
    for change in changes {
        let same_before = before.get(b..change.before.start)?;
        if same_before != after.get(a..change.after.start)? {
            return None;
        }
        let old = before.get(change.before.clone())?;
        let new = after.get(change.after.clone())?;
        (b, a) = (change.before.end, change.after.end);
        followed.extend(diff(old, new).into_iter().map(|c| Change {
            before: c.before.start + change.before.start..c.before.end + change.before.start,
            after: c.after.start + change.after.start..c.after.end + change.after.start,
        }));
    }
    (before.get(b..)? == after.get(a..)?).then_some(followed)
}

/// `h_` and 16 hexadecimal digits of a hash over all that the hunk says.
fn id_of(path: &str, what: &str, old: &[u8], new: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [path.as_bytes(), what.as_bytes(), old, new] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("h_{}", &hasher.finalize().to_hex()[..16])
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

impl Version {
    /// The version as an image; permission bits come from `mode`, the file it takes after.
    pub fn image(&self, mode: Option<u32>) -> Option<Image> {
        let mode = mode.unwrap_or(0o666 & !umask());
        Some(Image {
            bytes: self.bytes.clone()?,
            mode: with_executable(mode, self.is_executable),
        })
    }
}

/// Sets or clears the executable bits, for those who may read.
pub(super) fn with_executable(mode: u32, is_executable: bool) -> u32 {
    match is_executable {
        true => mode | (mode & 0o444) >> 2,
        false => mode & !0o111,
    }
}

/// The permissions that new files of this process do not get.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        // It can only be read by setting it.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::umask(mask);
        mask.as_raw_mode() as u32
    })
}
