//! What is proposed in a folder, and deciding it hunk by hunk.
//!
//! Holds: the journal knows how a hunk was decided, and says so in the same stroke in which it says
//! that the files were written. What is in memory is only what was last read: it is compared with
//! the journal under the lock before anything is decided, for another process may have been there.
//! Not here: taking back (`rollback`), writing (`transaction`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Choice, Compared, EditError, Outcome, Workspace};
use crate::edit::hunks::{
    self, Conflict, Hunk, HunkState, Proposal, ProposedFile, with_executable,
};
use crate::edit::journal::{
    self, Decided, Entry, Image, Kind, LogRow, Note, ProposalRow, Purpose, Record, World,
};
use crate::edit::parse::EditSet;
use crate::edit::path::RepoPath;
use crate::edit::plan::{Options, Plan};
use crate::edit::spelling;
use crate::edit::text::Inexpressible;
use crate::edit::transaction::{Failure, Wanted, commit};
use crate::edit::worlds::{Documents, NoDocuments};
use crate::edit::{self, Refusal};
use crate::store::StoreError;

/// Proposals that are read into memory; the oldest give way.
const MAX_PROPOSALS: usize = 256;
/// Bytes of proposals without an undecided hunk that stay in memory; the oldest give way.
const MAX_DECIDED: usize = 64 << 20;

/// Proposals as they were last read, by id: ids sort by age.
#[derive(Debug, Default)]
pub(super) struct Proposals(Mutex<BTreeMap<String, Known>>);

#[derive(Debug)]
struct Known {
    version: i64,
    /// `None` when its body cannot be read.
    proposal: Option<Arc<Proposal>>,
}

/// Hunks of one proposal.
type Chosen = (Arc<Proposal>, Vec<String>);

impl Workspace {
    /// Plans an answer's edits and keeps them to be decided.
    ///
    /// # Errors
    /// As [`preview`](Self::preview), and when they cannot be kept.
    pub fn propose(
        &self,
        documents: &dyn Documents,
        edits: &EditSet,
        options: &Options<'_>,
        author: &str,
        step: Option<&str>,
    ) -> Result<Proposal, EditError> {
        let proposal = self.preview(documents, edits, options, author, step)?;
        self.keep(&proposal)?;
        Ok(proposal)
    }

    /// Keeps a plan that was made elsewhere to be decided, under an id of the caller's. Proposing
    /// it again changes nothing: what was decided of it stays.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn propose_plan(
        &self,
        plan: Plan,
        id: &str,
        author: &str,
        step: Option<&str>,
    ) -> Result<Proposal, EditError> {
        // No file is touched, so what was cut off waits for who can give documents their text back.
        let _lock = self.exclusive().map_err(Failure::Journal)?;
        self.check_place()?;
        self.refresh(Some(id)).map_err(Failure::Store)?;
        if let Some(known) = self.listed().get(id).and_then(|k| k.proposal.as_deref()) {
            return Ok(known.clone());
        }
        let mut proposal = Proposal::new(plan, author.to_owned(), step.map(str::to_owned));
        id.clone_into(&mut proposal.id);
        self.keep(&proposal)?;
        Ok(proposal)
    }

    fn keep(&self, proposal: &Proposal) -> Result<(), EditError> {
        let mut notes = vec![Note::Proposal(row_of(proposal))];
        notes.extend(logged(proposal, "propose", |_| true));
        journal::note(self.store(), &notes).map_err(Failure::Store)?;
        self.refresh(Some(&proposal.id)).map_err(Failure::Store)?;
        self.was_kept(proposal.n_bytes());
        Ok(())
    }

    /// Proposals with undecided hunks, and those decided while this is open as far as there is room
    /// for them, oldest first.
    pub fn list(&self) -> Vec<Arc<Proposal>> {
        self.refresh_decided();
        let listed = self.listed();
        listed.values().filter_map(|k| k.proposal.clone()).collect()
    }

    /// Brings the proposals in memory up to what is kept, and `wanted` into memory.
    pub(super) fn refresh(&self, wanted: Option<&str>) -> Result<(), StoreError> {
        let mut listed = self.listed();
        let mut kept = journal::kept_proposals(self.store())?;
        let is_wanted = |id: &str| wanted == Some(id);
        kept.retain(|k| k.is_open || is_wanted(&k.id) || listed.contains_key(&k.id));
        kept.sort_by_key(|k| !is_wanted(&k.id));
        kept.truncate(MAX_PROPOSALS);
        let mut read = BTreeMap::new();
        for kept in kept {
            let known = match listed.remove(&kept.id) {
                Some(known) if known.version == kept.version => known,
                _ => Known {
                    version: kept.version,
                    proposal: self.read_proposal(&kept.id)?.map(Arc::new),
                },
            };
            read.insert(kept.id, known);
        }
        let mut n_bytes = 0;
        let is_decided = |known: &Known| known.proposal.as_ref().is_some_and(|p| !p.is_open());
        let surplus = read.iter().rev().filter(|(id, known)| {
            n_bytes += known.proposal.as_ref().map_or(0, |p| p.n_bytes());
            n_bytes > MAX_DECIDED && is_decided(known) && !is_wanted(id)
        });
        let surplus: Vec<String> = surplus.map(|(id, _)| id.clone()).collect();
        surplus.iter().for_each(|id| drop(read.remove(id)));
        *listed = read;
        Ok(())
    }

    /// As [`refresh`](Self::refresh), where it is not worth an error: the next edit asks again.
    pub(super) fn refresh_decided(&self) {
        if let Err(why) = self.refresh(None) {
            tracing::warn!(%why, "proposals cannot be read again");
        }
    }

    fn read_proposal(&self, id: &str) -> Result<Option<Proposal>, StoreError> {
        let Some(body) = journal::proposal(self.store(), id)? else {
            return Ok(None);
        };
        match serde_json::from_str(&body) {
            Ok(proposal) => Ok(Some(proposal)),
            Err(why) => {
                tracing::warn!(%why, id, "a kept proposal cannot be read and is left out");
                Ok(None)
            }
        }
    }

    fn listed(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        let Proposals(listed) = &self.proposals;
        listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes undecided hunks into their files: all of them, or none when one is in conflict.
    ///
    /// # Errors
    /// [`EditError`]; nothing was changed then.
    pub fn accept(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        self.decide(documents, choice, HunkState::Accepted, request)
    }

    /// Rejects hunks. Those that were accepted before are taken out of their files again.
    ///
    /// # Errors
    /// [`EditError`]; nothing was changed then.
    pub fn reject(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        self.decide(documents, choice, HunkState::Rejected, request)
    }

    /// Returns a file as it is, and as it would be with all its undecided hunks. Lines that a hunk is
    /// in conflict with stay as they are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn compare(
        &self,
        documents: &dyn Documents,
        path: &RepoPath,
    ) -> Result<Compared, EditError> {
        self.check_place()?;
        self.refresh_decided();
        let to = HunkState::Accepted;
        let chosen = self.chosen(&Choice::File(path.clone()), to)?;
        let change = self.change(documents, &chosen, to)?;
        let now = self.look(documents, path)?;
        let moved = |w: &&Wanted| w.moved_from.as_ref() == Some(path);
        let after = match (change.wanted.iter().find(moved), change.written(path)) {
            (Some(moved), _) => moved.after.as_ref(),
            (None, Some(written)) => written.as_ref(),
            (None, None) => now.as_ref(),
        };
        let after = after.map(|image| image.bytes.clone());
        Ok(Compared {
            before: now.map(|image| image.bytes),
            after,
        })
    }

    fn decide(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        to: HunkState,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        let _lock = self.exclusively(documents)?;
        if let Some(done) = self.done_before(request)? {
            return Ok(done);
        }
        let chosen = self.chosen(choice, to)?;
        let change = self.change(documents, &chosen, to)?;
        if !change.conflicts.is_empty() {
            return Err(EditError::Conflicts(change.conflicts));
        }
        let mut wanted = change.wanted;
        wanted.retain(|w| w.before != w.after);
        let (action, kind) = match to {
            HunkState::Accepted => ("accept", Kind::Apply),
            HunkState::Rejected | HunkState::Pending => ("reject", Kind::Reject),
        };
        let decided: Vec<Proposal> = chosen
            .iter()
            .map(|(proposal, ids)| with_state(proposal, ids, to))
            .collect();
        let mut notes = Vec::new();
        for (proposal, (undecided, ids)) in decided.iter().zip(&chosen) {
            notes.push(Note::Proposal(row_of(proposal)));
            notes.extend(logged(undecided, action, |id| ids.iter().any(|i| i == id)));
        }
        let mut hunks: Vec<String> = Vec::new();
        for id in chosen.iter().flat_map(|(_, ids)| ids) {
            if !hunks.contains(id) {
                hunks.push(id.clone());
            }
        }
        let paths: Vec<String> = wanted.iter().map(|w| w.path.to_string()).collect();
        let rollback_token = match (&decided[..], wanted.is_empty()) {
            ([first, ..], false) => {
                let purpose = Purpose {
                    kind,
                    author: first.author.clone(),
                    proposal: Some(first.id.clone()),
                    hunks: hunks.clone(),
                    undoes: None,
                    conflicts: Vec::new(),
                    request: request.map(str::to_owned),
                };
                Some(commit(self, documents, &purpose, wanted, &notes)?)
            }
            _ => {
                let noted = match request {
                    Some(request) => journal::note_request(self.store(), &notes, request, &hunks),
                    None => journal::note(self.store(), &notes),
                };
                noted.map_err(Failure::Store)?;
                None
            }
        };
        self.refresh_decided();
        Ok(Outcome {
            rollback_token,
            hunks,
            paths,
            conflicts: Vec::new(),
        })
    }

    /// The proposals with hunks that `choice` means and that are not decided that way yet.
    fn chosen(&self, choice: &Choice, to: HunkState) -> Result<Vec<Chosen>, EditError> {
        let listed = self.listed();
        let proposals: Vec<&Arc<Proposal>> = listed
            .values()
            .filter_map(|known| known.proposal.as_ref())
            .collect();
        let pending = |p: &Proposal, of: &dyn Fn(&ProposedFile) -> bool| -> Vec<String> {
            let hunks = p
                .hunks()
                .filter(|(f, h)| of(f) && h.state == HunkState::Pending);
            hunks.map(|(_, h)| h.id.clone()).collect()
        };
        let mut chosen: Vec<Chosen> = Vec::new();
        match choice {
            Choice::Proposal(id) => {
                let proposal = proposals
                    .iter()
                    .find(|p| p.id == *id)
                    .ok_or_else(|| EditError::UnknownProposal(id.clone()))?;
                chosen.push((Arc::clone(proposal), pending(proposal, &|_| true)));
            }
            Choice::File(path) => {
                for proposal in proposals {
                    let ids = pending(proposal, &|f| f.is_about(path));
                    chosen.push((Arc::clone(proposal), ids));
                }
            }
            Choice::Hunks(ids) => {
                for id in ids {
                    // The same hunk may be proposed again after it was decided: the newest is meant.
                    let has = |p: &&&Arc<Proposal>| p.hunks().any(|(_, h)| h.id == *id);
                    let open = |p: &&&Arc<Proposal>| {
                        p.hunks()
                            .any(|(_, h)| h.id == *id && h.state == HunkState::Pending)
                    };
                    let proposal = proposals.iter().rev().find(open);
                    let proposal = proposal.or_else(|| proposals.iter().rev().find(has));
                    let Some(proposal) = proposal else {
                        return Err(EditError::UnknownHunk(id.clone()));
                    };
                    let is_decided = proposal.hunks().any(|(_, h)| h.id == *id && h.state == to);
                    if is_decided {
                        continue;
                    }
                    match chosen.iter_mut().find(|(p, _)| p.id == proposal.id) {
                        Some((_, ids)) => ids.push(id.clone()),
                        None => chosen.push((Arc::clone(proposal), vec![id.clone()])),
                    }
                }
            }
        }
        chosen.retain(|(_, ids)| !ids.is_empty());
        Ok(chosen)
    }

    /// What deciding these hunks asks to be written.
    fn change(
        &self,
        documents: &dyn Documents,
        chosen: &[Chosen],
        to: HunkState,
    ) -> Result<Change, EditError> {
        let mut change = Change::default();
        for (proposal, ids) in chosen {
            for file in &proposal.files {
                if file.hunks.iter().any(|h| ids.contains(&h.id)) {
                    self.change_file(&mut change, documents, file, ids, to)?;
                }
            }
        }
        Ok(change)
    }

    /// Adds what deciding some hunks of one file asks to be written, on top of `change`.
    fn change_file(
        &self,
        change: &mut Change,
        documents: &dyn Documents,
        file: &ProposedFile,
        ids: &[String],
        to: HunkState,
    ) -> Result<(), EditError> {
        let is_in = |h: &Hunk| h.state == HunkState::Accepted;
        let becomes_in = |h: &Hunk| match ids.contains(&h.id) {
            true => to == HunkState::Accepted,
            false => is_in(h),
        };
        let (from, target) = (file.with(is_in), file.with(becomes_in));
        if from == target {
            return Ok(());
        }
        let written = change.written(&from.path).cloned();
        // What was followed is what the document says, which is not yet what was decided.
        let is_as_read = written.is_none();
        let now = match written {
            Some(image) => image,
            None => self.look(documents, &from.path)?,
        };
        let spelled = match &now {
            Some(now) => {
                let world = match documents.open(&from.path) {
                    Some(_) => World::Document,
                    None => World::Disk,
                };
                file.spelled_like(&from, world, &now.bytes)
            }
            None => Ok(Cow::Borrowed(file)),
        };
        let spelled = spelled.map_err(|why| inexpressible(&from.path, &why))?;
        let file = &*spelled;
        let (from, target) = (file.with(is_in), file.with(becomes_in));
        let is_moved = from.path != target.path;
        let is_whole = from.bytes.is_none() || target.bytes.is_none() || is_moved;
        let is_done = change.written(&target.path).is_some_and(|image| {
            image.as_ref().map(|i| &i.bytes) == target.bytes.as_ref()
                && (!is_moved || now.is_none())
        });
        if is_whole && is_done {
            // Another proposal that was chosen does the very same.
            return Ok(());
        }
        let is_here = |id: &&String| file.hunks.iter().any(|hunk| hunk.id == **id);
        let of_file: Vec<String> = ids.iter().filter(is_here).cloned().collect();
        let conflict = || Conflict {
            path: from.path.clone(),
            hunks: of_file.clone(),
            lines: 0..0,
            base: String::new(),
            current: String::new(),
            proposed: String::new(),
        };
        let after = match (&from.bytes, &now, &target.bytes) {
            // A new file where there is one by now, or a file that is gone.
            (None, Some(_), _) | (Some(_), None, _) => {
                change.conflicts.push(conflict());
                return Ok(());
            }
            (None, None, _) => target.image(None),
            (Some(was), Some(now), None) => {
                if now.bytes != *was {
                    change.conflicts.push(conflict());
                    return Ok(());
                }
                None
            }
            (Some(was), Some(now), Some(_)) => {
                let followed = std::str::from_utf8(was)
                    .ok()
                    .filter(|_| is_as_read)
                    .and_then(|was| documents.followed(&from.path, was));
                let carried = file.carry(&now.bytes, followed.as_ref(), is_in, becomes_in);
                change.conflicts.extend(carried.conflicts);
                let changes_mode = from.is_executable != target.is_executable;
                let mode = match changes_mode {
                    true => with_executable(now.mode, target.is_executable),
                    false => now.mode,
                };
                Some(Image {
                    bytes: carried.bytes,
                    mode,
                })
            }
        };
        if !is_moved {
            change.write(Wanted {
                path: target.path,
                moved_from: None,
                before: now,
                after,
            });
            return Ok(());
        }
        let at_target = match change.written(&target.path) {
            Some(image) => image.clone(),
            None => self.look(documents, &target.path)?,
        };
        if at_target.is_some() {
            change.conflicts.push(conflict());
            return Ok(());
        }
        let after = match after {
            // It goes on on the disk, where it is spelled as it was there.
            Some(image) if documents.open(&from.path).is_some() => {
                let stored = self.look(&NoDocuments, &from.path)?;
                let stored = stored.map_or_else(Vec::new, |image| image.bytes);
                let bytes = spelling::like(&stored, &image.bytes);
                let bytes = bytes.map_err(|why| inexpressible(&from.path, &why))?;
                Some(Image { bytes, ..image })
            }
            after => after,
        };
        change.write(Wanted {
            path: target.path,
            moved_from: Some(from.path.clone()),
            before: None,
            after,
        });
        change.write(Wanted {
            path: from.path,
            moved_from: None,
            before: now,
            after: None,
        });
        Ok(())
    }

    /// What a transaction decided, but for hunks in conflict, once it is taken back. Conflicts come
    /// with their lines of the file as the transaction left it.
    pub(super) fn taken_back(
        &self,
        entry: &Entry,
        records: &[Record],
        conflicts: &[(Range<usize>, Conflict)],
    ) -> Result<TakenBack, StoreError> {
        let mut of_proposal: BTreeMap<String, Vec<Decided>> = BTreeMap::new();
        for decided in journal::decided(self.store(), &entry.token)? {
            let of_it = of_proposal.entry(decided.proposal.clone()).or_default();
            of_it.push(decided);
        }
        let mut taken_back = TakenBack::default();
        for (id, decided) in of_proposal {
            let Some(mut proposal) = self.read_proposal(&id)? else {
                // One that is no longer kept has no state to change.
                taken_back.hunks.extend(decided);
                continue;
            };
            for file in &mut proposal.files {
                let left = in_conflict(file, records, conflicts);
                for hunk in &mut file.hunks {
                    let Some(decided) = decided.iter().find(|d| d.hunk == hunk.id) else {
                        continue;
                    };
                    if left.contains(&hunk.id) {
                        continue;
                    }
                    taken_back.hunks.push(Decided {
                        was: Some(hunk.state),
                        ..decided.clone()
                    });
                    hunk.state = match (entry.kind, decided.was) {
                        // It was proposed, and is not wanted by now.
                        (Kind::Apply, None | Some(HunkState::Pending)) => HunkState::Rejected,
                        (_, Some(was)) => was,
                        (Kind::Reject | Kind::Rollback, None) => HunkState::Accepted,
                    };
                }
            }
            taken_back.proposals.push(proposal);
        }
        Ok(taken_back)
    }
}

/// What is decided anew when a transaction is taken back.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// With how they are decided until then.
    pub(super) hunks: Vec<Decided>,
    /// Those the hunks are of, as they are afterwards.
    proposals: Vec<Proposal>,
}

/// The hunks of a file that conflicts keep as they are. `records` say how the file was left.
fn in_conflict(
    file: &ProposedFile,
    records: &[Record],
    conflicts: &[(Range<usize>, Conflict)],
) -> Vec<String> {
    let here: Vec<&(Range<usize>, Conflict)> = conflicts
        .iter()
        .filter(|(_, c)| file.is_about(&c.path))
        .collect();
    if here.is_empty() {
        return Vec::new();
    }
    let is_in = |h: &Hunk| h.state == HunkState::Accepted;
    let record = records.iter().find(|r| r.path == file.path);
    let left = record.and_then(|r| Some((r.world, &r.after.as_ref()?.bytes)));
    let places = left.and_then(|(world, left)| {
        let spelled = file.spelled_like(&file.with(is_in), world, left).ok()?;
        Some(spelled.places(left, None, is_in))
    });
    let touches = |idx: usize| {
        let place = places.iter().flatten().find(|(at, ..)| *at == idx);
        // What is about the file as a whole has no lines, and stays as it is.
        place.is_none_or(|(_, lines, _)| here.iter().any(|(base, _)| hunks::touch(base, lines)))
    };
    let hunks = file.hunks.iter().enumerate();
    hunks
        .filter(|(idx, _)| touches(*idx))
        .map(|(_, hunk)| hunk.id.clone())
        .collect()
}

fn inexpressible(path: &RepoPath, why: &Inexpressible) -> EditError {
    let refused = Refusal::new(edit::Kind::Other, why.to_string());
    EditError::Refused(vec![refused.in_file(path.as_str())])
}

/// What hunks of several files and proposals ask to be written, each path once.
#[derive(Default)]
struct Change {
    wanted: Vec<Wanted>,
    /// Where a path is in `wanted`.
    at: BTreeMap<RepoPath, usize>,
    conflicts: Vec<Conflict>,
}

impl Change {
    /// What is at a path after all that was chosen so far, if that touches it.
    fn written(&self, path: &RepoPath) -> Option<&Option<Image>> {
        self.at.get(path).map(|&idx| &self.wanted[idx].after)
    }

    /// Writes to a path on top of what was chosen so far.
    fn write(&mut self, wanted: Wanted) {
        match self.at.get(&wanted.path) {
            Some(&idx) => {
                let earlier = &mut self.wanted[idx];
                earlier.after = wanted.after;
                earlier.moved_from = earlier.moved_from.take().or(wanted.moved_from);
            }
            None => {
                self.at.insert(wanted.path.clone(), self.wanted.len());
                self.wanted.push(wanted);
            }
        }
    }
}

/// What the journal is told of a rollback: who took back which hunks, and how proposals are now.
pub(super) fn notes_of_rollback<'a>(entry: &'a Entry, taken_back: &'a TakenBack) -> Vec<Note<'a>> {
    let row = |proposal: Option<&'a str>, hunk: Option<&'a str>, was: Option<HunkState>| {
        Note::Log(LogRow {
            action: "rollback",
            author: &entry.author,
            proposal,
            step: None,
            hunk,
            was,
            path: None,
        })
    };
    let hunks = taken_back.hunks.iter();
    let mut notes: Vec<Note<'a>> = hunks
        .map(|d| row(Some(&d.proposal), Some(&d.hunk), d.was))
        .collect();
    if notes.is_empty() {
        notes.push(row(entry.proposal.as_deref(), None, None));
    }
    let proposals = taken_back.proposals.iter();
    notes.extend(proposals.map(|p| Note::Proposal(row_of(p))));
    notes
}

fn row_of(proposal: &Proposal) -> ProposalRow<'_> {
    ProposalRow {
        id: &proposal.id,
        author: &proposal.author,
        step: proposal.step.as_deref(),
        is_open: proposal.is_open(),
        body: serde_json::to_string(proposal).expect("a proposal has only string keys"),
    }
}

/// Rows that say what happens to some hunks of a proposal, which is as it was before.
fn logged<'p>(
    proposal: &'p Proposal,
    action: &'static str,
    which: impl Fn(&str) -> bool,
) -> impl Iterator<Item = Note<'p>> {
    let hunks = proposal.hunks().filter(move |(_, hunk)| which(&hunk.id));
    hunks.map(move |(file, hunk)| {
        Note::Log(LogRow {
            action,
            author: &proposal.author,
            proposal: Some(&proposal.id),
            step: proposal.step.as_deref(),
            hunk: Some(&hunk.id),
            was: Some(hunk.state),
            path: Some(file.path.as_str()),
        })
    })
}

fn with_state(proposal: &Proposal, ids: &[String], state: HunkState) -> Proposal {
    let mut proposal = proposal.clone();
    for hunk in proposal.files.iter_mut().flat_map(|f| &mut f.hunks) {
        if ids.contains(&hunk.id) {
            hunk.state = state;
        }
    }
    proposal
}
