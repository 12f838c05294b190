//! The buffers of a client that tells no names: each prompt becomes a version of a document.
//!
//! Holds: a prompt whose lines stand in a file is taken for that file, with what the client left
//! out filled in from the disk; one with lines of a file that is kept for secrets is not answered,
//! learnt or sent; any other is a buffer without a name. A document stays open while
//! it is asked about, so that typing along a suggestion asks no model, as in an editor. The answer
//! is only ever text to insert at the cursor.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::files::{self, Files, Origin};
use super::wire::Question;
use crate::complete::engines::Engines;
use crate::complete::{Ask, Completer, Request, Trigger};
use crate::session::document::{Change, Document, uri_of};
use crate::session::{Session, language};

/// Documents that are open at a time; the one asked about longest ago is closed.
const OPEN: usize = 8;
/// Age at which the lines of all files are read anew when a prompt was not recognised.
const STALE: Duration = Duration::from_secs(30);
/// The buffer that no file is known for.
const UNNAMED: &str = "untitled:completions";

#[derive(Debug)]
pub(super) struct Buffers {
    roots: Vec<PathBuf>,
    session: Arc<Session>,
    completer: Completer,
    files: Arc<RwLock<Known>>,
    /// Open documents, the one asked about last at the end. Held while one is changed and asked
    /// about, so that two prompts never mix.
    open: Mutex<VecDeque<Arc<str>>>,
}

/// The files, and when they were read.
#[derive(Debug)]
struct Known {
    files: Arc<Files>,
    read: Instant,
}

/// A prompt whose answer is being looked for. Dropping it takes it back.
pub(super) struct Begun {
    request: Request,
    document: Arc<Document>,
    offset: usize,
}

impl Buffers {
    pub(super) fn new(roots: Vec<PathBuf>, engines: Engines) -> Self {
        let session = Arc::new(Session::default());
        session.set_roots(roots.clone());
        let files = Arc::new(Files::read(&roots));
        Self {
            completer: Completer::new(Arc::clone(&session), engines),
            roots,
            session,
            files: Arc::new(RwLock::new(Known {
                files,
                read: Instant::now(),
            })),
            open: Mutex::default(),
        }
    }

    /// Puts other engines in force.
    pub(super) fn set_engines(&self, engines: Engines) {
        let before = self.completer.engines();
        let is_new = engines.local_unlike(&before).is_some();
        self.completer.set_engines(engines);
        if is_new {
            let engines = self.completer.engines();
            self.session
                .tell_open(|d| engines.edited(d), |d| engines.closed(d));
        }
        // The last one to let go of an engine waits for its thread, which may be at work.
        drop(tokio::task::spawn_blocking(move || drop(before)));
    }

    /// Takes up a question; `None` when what stands around its cursor is kept secret. Blocks for as
    /// long as it takes to read one file.
    pub(super) fn begin(&self, question: &Question) -> Option<Begun> {
        let (files, origin) = self.recognise(question);
        let (uri, language, text, offset) = match origin {
            Origin::Secret => return None,
            Origin::File(path) => {
                let (text, offset) = whole(&path, question);
                (uri_of(&path), language::of_path(&path), text, offset)
            }
            Origin::Unknown => {
                let Question { prefix, suffix } = question;
                let language = files.language().unwrap_or("plaintext").to_owned();
                let text = format!("{prefix}{suffix}");
                (UNNAMED.to_owned(), language, text, prefix.len())
            }
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let document = self.show(&mut open, &uri, &language, text);
        let request = self.completer.begin(Ask {
            snapshot: self.session.snapshot(),
            document: Arc::clone(&document),
            offset,
            trigger: Trigger::Automatic,
            selected: None,
        });
        Some(Begun {
            request,
            document,
            offset,
        })
    }

    /// Where a question comes from, by the files as they were known last. Where that tells nothing
    /// they are read anew for the next question, beside this one.
    fn recognise(&self, question: &Question) -> (Arc<Files>, Origin) {
        let (files, is_stale) = {
            let known = self.files.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&known.files), known.read.elapsed() >= STALE)
        };
        let origin = files.of(&question.prefix, &question.suffix);
        if is_stale && matches!(origin, Origin::Unknown) {
            self.read_anew();
        }
        (files, origin)
    }

    fn read_anew(&self) {
        let mut known = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if known.read.elapsed() < STALE {
            return;
        }
        // Now, so that nobody else begins.
        known.read = Instant::now();
        let (roots, files) = (self.roots.clone(), Arc::clone(&self.files));
        std::thread::spawn(move || {
            let read = Arc::new(Files::read(&roots));
            let mut known = files.write().unwrap_or_else(PoisonError::into_inner);
            *known = Known {
                files: read,
                read: Instant::now(),
            };
        });
    }

    /// Makes `text` the newest version of the document.
    fn show(
        &self,
        open: &mut VecDeque<Arc<str>>,
        uri: &str,
        language: &str,
        text: String,
    ) -> Arc<Document> {
        let known = self.session.snapshot().document(uri).cloned();
        open.retain(|other| &**other != uri);
        let document = match known {
            Some(document) if document.text == text => document,
            Some(document) => {
                let change = Change { range: None, text };
                let version = document.version.wrapping_add(1);
                match self.session.change(uri, version, &[change]) {
                    Some(changed) => {
                        self.completer.edited(&changed);
                        changed.document
                    }
                    None => document,
                }
            }
            None => {
                let document = self.session.open(Document::new(uri, language, 1, &text));
                self.completer.opened(&document);
                document
            }
        };
        open.push_back(Arc::clone(&document.uri));
        while open.len() > OPEN {
            if let Some(oldest) = open.pop_front()
                && let Some(document) = self.session.snapshot().document(&oldest)
            {
                self.session.close(&oldest);
                self.completer.closed(document);
            }
        }
        document
    }
}

impl Begun {
    /// The text to insert at the cursor; `None` when there is nothing worth showing, or the
    /// question was overtaken.
    pub(super) async fn insertion(self) -> Option<String> {
        let items = self.request.answer().await?;
        let text = items.first()?.insertion(&self.document, self.offset)?;
        Some(text.to_owned())
    }
}

/// The whole file with the excerpt in its place, and where the cursor is; the excerpt alone where
/// its place is not found.
fn whole(path: &Path, question: &Question) -> (String, usize) {
    let Question { prefix, suffix } = question;
    let on_disk = files::read(path).unwrap_or_default();
    let (head, tail) = match files::part(&on_disk, prefix, suffix) {
        Some(part) => (&on_disk[..part.start], &on_disk[part.end..]),
        None => ("", ""),
    };
    let text = [head, prefix, suffix, tail].concat();
    (text, head.len() + prefix.len())
}
