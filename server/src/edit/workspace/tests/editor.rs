//! An editor as the workspace sees one: open documents, honest or not.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;
use crate::edit::follow::{Followed, LineEdit};
use crate::edit::worlds::{DocumentChange, DocumentFailure, Open};

/// How an editor treats the edits it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Honest,
    Refuses,
    /// Says it did, and did not.
    Lies,
    /// Does the first document of several.
    Partial,
    /// Closes the document.
    Vanishes,
}

/// What keeps an editor from giving a document its old text back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hindrance {
    Refuses,
    /// The user makes this of it in that moment.
    Typing(&'static str),
}

/// An editor with some documents open.
pub(super) struct Editor {
    manner: Manner,
    documents: RefCell<BTreeMap<RepoPath, Open>>,
    /// What happened to the lines since each earlier text.
    followed: RefCell<Vec<(RepoPath, String, Followed)>>,
    /// Of the next times that texts are given back.
    hindrances: RefCell<VecDeque<Hindrance>>,
}

impl Editor {
    pub(super) fn with(manner: Manner, documents: &[(&str, &str)]) -> Self {
        let open = |text: &str| Open {
            text: text.to_owned(),
            version: 1,
        };
        let documents = documents
            .iter()
            .map(|(path, text)| (RepoPath::parse(path).unwrap(), open(text)));
        Self {
            manner,
            documents: RefCell::new(documents.collect()),
            followed: RefCell::default(),
            hindrances: RefCell::default(),
        }
    }

    pub(super) fn hinder(&self, hindrances: &[Hindrance]) {
        self.hindrances.borrow_mut().extend(hindrances);
    }

    pub(super) fn text(&self, path: &str) -> String {
        let path = RepoPath::parse(path).unwrap();
        self.documents.borrow()[&path].text.clone()
    }

    /// Follows the text a document has from now on.
    pub(super) fn follow(&self, path: &str) {
        let base = (
            RepoPath::parse(path).unwrap(),
            self.text(path),
            Followed::default(),
        );
        self.followed.borrow_mut().push(base);
    }

    pub(super) fn edited(&self, edit: LineEdit) {
        let mut followed = self.followed.borrow_mut();
        followed.iter_mut().for_each(|(.., f)| f.edit(edit));
    }

    pub(super) fn set(&self, path: &RepoPath, text: &str) {
        let mut documents = self.documents.borrow_mut();
        let open = documents.get_mut(path).unwrap();
        open.text = text.to_owned();
        open.version += 1;
    }
}

impl Documents for Editor {
    fn open(&self, path: &RepoPath) -> Option<Open> {
        self.documents.borrow().get(path).cloned()
    }

    fn all(&self) -> Vec<RepoPath> {
        self.documents.borrow().keys().cloned().collect()
    }

    fn change(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        for (idx, change) in changes.iter().enumerate() {
            let failure = |why: &str| DocumentFailure {
                path: change.path.clone(),
                why: why.into(),
            };
            match self.manner {
                Manner::Honest => {
                    self.set(&change.path, &change.after);
                    for edit in line_edits(&change.before, &change.after) {
                        self.edited(edit);
                    }
                    self.follow(change.path.as_str());
                }
                Manner::Refuses => return Err(failure("refused")),
                Manner::Lies => return Err(failure("says it did, but the text is another")),
                Manner::Partial if idx == 0 => self.set(&change.path, &change.after),
                Manner::Partial => return Err(failure("stopped half way")),
                Manner::Vanishes => {
                    self.documents.borrow_mut().remove(&change.path);
                    return Err(failure("was closed"));
                }
            }
        }
        Ok(())
    }

    fn change_back(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        let hindrance = self.hindrances.borrow_mut().pop_front();
        for change in changes {
            match hindrance {
                None => self.set(&change.path, &change.after),
                Some(Hindrance::Typing(text)) => self.set(&change.path, text),
                Some(Hindrance::Refuses) => {}
            }
        }
        match (hindrance, changes.first()) {
            (Some(_), Some(change)) => Err(DocumentFailure {
                path: change.path.clone(),
                why: "was not given back".into(),
            }),
            (None, _) | (_, None) => Ok(()),
        }
    }

    fn followed(&self, path: &RepoPath, base: &str) -> Option<Followed> {
        let followed = self.followed.borrow();
        let mut newest = followed.iter().rev();
        let (.., found) = newest.find(|(p, text, _)| p == path && text == base)?;
        Some(found.clone())
    }
}

/// The edits of lines that lead from one text to another, last first.
fn line_edits(before: &str, after: &str) -> Vec<LineEdit> {
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = (
        before.split_inclusive('\n').map(str::as_bytes).collect(),
        after.split_inclusive('\n').map(str::as_bytes).collect(),
    );
    let text = |lines: &[&[u8]]| String::from_utf8(lines.concat()).unwrap();
    let changes = crate::edit::merge::diff(&old, &new);
    let edits = changes.into_iter().rev().map(|c| {
        LineEdit::of(
            c.before.start,
            true,
            &text(&old[c.before.clone()]),
            &text(&new[c.after]),
        )
    });
    edits.collect()
}
