//! The one thread that changes the index.
//!
//! A round takes the mail, shows open buffers, then looks at one batch of waiting files, so that a
//! keystroke never waits longer than a batch. Few changes stay in memory over the base until it is
//! quiet; many go straight to disk and are published now and then, less often as it grows.
//! Listing all files is the work of another thread, and what it found is mail: files that are known
//! to have changed are looked at and shown meanwhile.

mod look;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Options, Phase, Role, Shared, State, Status, Watching,
    examine::now,
    inbox::{Inbox, Mail, Patience},
    line::{Line, Order},
    publish::{Stores, empty, read_published},
};
use crate::{
    path::{ContentHash, RepoPath},
    reader::{Base, OverlayFile, Reader},
    repo::{Head, Repo, history::History},
    store::{FileEntry, Layout, Manifest, StoreError, UnitKey},
    syntax::{Kept, Language, Parser},
    vector::{OutsideModel, VectorLog},
    walk::{
        Fault, Stat,
        class::{self, FileClass},
        watch::{Change, Watch},
    },
};

/// Files looked at between two looks at the mail.
const BATCH: usize = 96;
/// Up to this many waiting files go to the overlay, more go straight to disk.
const MAX_IN_MEMORY: usize = 400;
/// Files that were closed last are looked at before others, as open ones are.
const MAX_RECENT: usize = 32;
/// Quiet time before what is in memory is published.
const QUIET: Duration = Duration::from_secs(3);
/// How often a follower asks for its turn.
const TURN: Duration = Duration::from_secs(2);
/// What the disk refused is tried again after this, then after twice as long each time,
const RETRY: Duration = match cfg!(test) {
    true => Duration::from_millis(200),
    false => Duration::from_secs(30),
};
/// and at the latest after this.
const MAX_RETRY: Duration = Duration::from_mins(10);
const FIRST_PUBLISH: Duration = Duration::from_millis(1_500);
const MAX_FAULTS: usize = 10_000;
const SHOWN_FAULTS: usize = 100;
const MAX_WANTED: usize = 4_096;
/// How often vectors that come in are shown before all of them are there.
const VECTORS_SHOWN: Duration = Duration::from_secs(30);

/// What a fault is of: the path of a file, empty where there is none, and what was done.
type Of = (String, Part);

/// A part of the index, or of the work on it, that may be at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Looking at the file.
    File,
    /// What was on disk at the start: which of its faults.
    Opened(usize),
    /// The last list of all files: which of its faults.
    Walked(usize),
    /// Listing all files.
    Walk,
    Watch,
    Git,
    History,
    Vectors,
    Publish,
    Turn,
}

/// An open buffer.
struct Buffer {
    text: Arc<str>,
    kept: Option<Kept>,
    file: Arc<OverlayFile>,
}

pub(super) struct Writer {
    options: Options,
    layout: Layout,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    pool: ThreadPool,
    parser: Parser,
    repo: Option<Repo>,
    watch: Option<Arc<Watch>>,
    /// `None` while another process writes.
    stores: Option<Stores>,
    /// The files as last looked at, published or not.
    files: BTreeMap<RepoPath, FileEntry>,
    base: Arc<Base>,
    /// Saved files that are newer than the base, and files that went.
    fresh: FxHashMap<RepoPath, Arc<OverlayFile>>,
    gone: FxHashSet<RepoPath>,
    buffers: FxHashMap<RepoPath, Buffer>,
    /// Those closed last, the newest first.
    recent: VecDeque<RepoPath>,
    waiting: Line,
    /// All files are to be listed,
    must_walk: bool,
    /// are being listed,
    walks: bool,
    /// were listed before.
    has_listed: bool,
    /// Files looked at since that began.
    looked_at: FxHashSet<RepoPath>,
    history: Arc<History>,
    head: Arc<Head>,
    reads_history: bool,
    /// The commit whose history is known.
    history_of: Option<String>,
    faults: BTreeMap<Of, String>,
    phase: Phase,
    generation: u64,
    /// The manifest of the process that writes, as it was when it was read last.
    seen_manifest: Option<Stat>,
    indexed_commit: Option<String>,
    /// Something is only in memory that belongs on disk.
    is_dirty: bool,
    /// Content was stored that readers see only once it is published.
    has_unshown: bool,
    must_settle: bool,
    /// Whose vectors are kept beside the embedded ones.
    outside: Option<OutsideModel>,
    /// Units all of whose chunks have one, as of a compaction.
    has_vectors: FxHashSet<UnitKey>,
    has_new_vectors: bool,
    last_change: Instant,
    last_publish: Instant,
    publish_interval: Duration,
    /// When what the disk refused is tried again.
    retry_at: Option<Instant>,
    /// How long what it refuses next waits for that.
    retry_after: Duration,
    /// Messages taken from the inbox.
    n_told: u64,
}

impl Writer {
    /// Opens what is on disk and makes the first reader of it.
    pub(super) fn open(
        options: Options,
        layout: Layout,
        inbox: Arc<Inbox>,
    ) -> Result<(Self, Arc<Shared>), StoreError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads.max(1))
            .thread_name(|n| format!("index-{n}"))
            .start_handler(|_| lower_priority())
            .build()
            .map_err(|error| {
                StoreError::io("start threads for", &options.root)(std::io::Error::other(error))
            })?;
        let mut faults = BTreeMap::new();
        let (stores, base, manifest) = match layout.lock()? {
            Some(lock) => {
                let (mut stores, opened) = Stores::open(&layout, lock)?;
                for (n, fault) in opened.faults.into_iter().enumerate() {
                    faults.insert((fault.path, Part::Opened(n)), fault.message);
                }
                let manifest = opened.manifest;
                let base = stores.base(manifest.files.clone())?;
                (Some(stores), base, manifest)
            }
            None => match read_published(&layout) {
                Ok(Some((base, manifest))) => (None, base, manifest),
                Ok(None) | Err(_) => (None, empty()?, Manifest::default()),
            },
        };
        let history = History::read(&layout.history()).unwrap_or_else(|error| {
            let of = (String::new(), Part::History);
            faults.insert(of, format!("reading the history again: {error}"));
            History::default()
        });
        let base = Arc::new(base);
        let reader = Reader {
            root: Arc::new(options.root.clone()),
            base: base.clone(),
            overlay: Arc::default(),
            past_slots: base.past_slots(&history),
            history: Arc::new(history),
        };
        let history = reader.history.clone();
        let state = State {
            reader,
            status: Status::default(),
            wanted: Vec::new(),
            known_texts: FxHashSet::default(),
            n_handled: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            published: Condvar::new(),
        });
        let now = Instant::now();
        let mut writer = Self {
            pool,
            inbox,
            shared: shared.clone(),
            parser: Parser::default(),
            repo: None,
            watch: None,
            stores,
            files: manifest
                .files
                .into_iter()
                .map(|file| (file.path.clone(), file))
                .collect(),
            base,
            fresh: FxHashMap::default(),
            gone: FxHashSet::default(),
            buffers: FxHashMap::default(),
            recent: VecDeque::new(),
            waiting: Line::default(),
            must_walk: true,
            walks: false,
            has_listed: false,
            looked_at: FxHashSet::default(),
            history,
            head: Arc::default(),
            reads_history: false,
            history_of: None,
            faults,
            phase: Phase::Scanning,
            generation: manifest.generation,
            seen_manifest: None,
            indexed_commit: manifest.commit,
            is_dirty: false,
            has_unshown: false,
            must_settle: false,
            outside: None,
            has_vectors: FxHashSet::default(),
            has_new_vectors: false,
            last_change: now,
            last_publish: now,
            publish_interval: FIRST_PUBLISH,
            retry_at: None,
            retry_after: RETRY,
            n_told: 0,
            options,
            layout,
        };
        writer.report();
        Ok((writer, shared))
    }

    /// Works until the index is dropped.
    pub(super) fn run(mut self) {
        self.start_watching();
        self.look_at_git();
        loop {
            self.walk_if_asked();
            self.report();
            let mail = self.inbox.take(self.patience());
            let stops = mail.stop;
            self.handle(mail);
            if stops {
                break;
            }
            self.look_at_batch();
            self.publish_if_due();
            self.show_vectors_if_due();
            if self.stores.is_none() {
                self.ask_for_turn();
            }
        }
        if self.is_dirty && self.stores.is_some() {
            self.publish();
        }
    }

    fn patience(&self) -> Patience {
        let has_turn = self.stores.is_some();
        if !self.waiting.is_empty() && (has_turn || self.fresh.len() < 4 * MAX_IN_MEMORY) {
            Patience::None
        } else if self.walks {
            Patience::Forever
        } else if !has_turn {
            Patience::Until(self.retry_at.unwrap_or_else(|| Instant::now() + TURN))
        } else if self.is_dirty {
            Patience::Until(self.last_change + QUIET)
        } else {
            Patience::Forever
        }
    }

    fn handle(&mut self, mail: Mail) {
        let mut is_visible = false;
        for (path, text) in mail.buffers {
            is_visible |= match text {
                Some(text) => self.show_buffer(path, text),
                None => self.close_buffer(&path),
            };
        }
        if is_visible {
            self.show();
        }
        if let Some((commit, history)) = mail.history {
            self.reads_history = false;
            self.history_of = commit;
            self.history = Arc::new(history);
            self.keep_history();
            self.show();
            self.read_history();
        }
        if mail.git {
            self.look_at_git();
        }
        self.must_walk |= mail.rescan;
        let changed = self.look_at(mail.paths, Order::First);
        self.tell_changed(&changed);
        if let Some(walked) = mail.walked {
            self.reconcile(walked);
        }
        if let Some(model) = mail.outside {
            self.use_outside(model);
        }
        if !mail.vectors.is_empty() {
            self.keep_vectors(mail.vectors);
        }
        self.must_settle |= mail.settle;
        self.n_told = mail.n_messages;
    }

    /// Parses the new text of a buffer; returns whether it can be seen.
    fn show_buffer(&mut self, path: RepoPath, text: Arc<str>) -> bool {
        if FileClass::of_path(path.as_str()) != FileClass::Content
            || text.len() as u64 > class::MAX_BYTES
            || !self.is_ours(&path)
        {
            return self.buffers.remove(&path).is_some();
        }
        let previous = self.buffers.remove(&path);
        if previous
            .as_ref()
            .is_some_and(|previous| previous.text == text)
        {
            self.buffers
                .extend(previous.map(|previous| (path, previous)));
            return false;
        }
        let head = &text[..text.floor_char_boundary(4_096)];
        let language = Language::detect(path.file_name(), head);
        let previous = previous
            .filter(|previous| previous.file.entry.language == language)
            .and_then(|previous| Some((previous.text, previous.kept?)));
        let reparse = AssertUnwindSafe(|| {
            let before = previous.as_ref();
            let before = before.map(|(text, kept)| (&**text, kept.clone()));
            self.parser.reparse(language, &text, before)
        });
        let Ok((parsed, kept)) = catch_unwind(reparse) else {
            // What it holds may be half of a text.
            self.parser = Parser::default();
            self.fault(path.as_str(), "its text in the editor cannot be parsed");
            return true;
        };
        let hash = ContentHash::of(text.as_bytes());
        let entry = FileEntry {
            path: path.clone(),
            stat: Stat::default(),
            seen: now(),
            class: FileClass::Content,
            language,
            hash,
            unit: Some(UnitKey::new(hash, language)),
            n_lines: parsed.unit.n_lines,
            n_definitions: parsed.unit.definitions.len() as u32,
        };
        let file = Arc::new(OverlayFile::new(entry, parsed, Some(text.clone())));
        self.buffers.insert(path, Buffer { text, kept, file });
        true
    }

    /// Lets the file on disk count again; returns whether a buffer hid it.
    fn close_buffer(&mut self, path: &RepoPath) -> bool {
        self.recent.retain(|recent| recent != path);
        self.recent.truncate(MAX_RECENT - 1);
        self.recent.push_front(path.clone());
        let was_shown = self.buffers.remove(path).is_some();
        // What was never shown hid nothing; a document too large to be shown says so at every key.
        if was_shown {
            self.look_at([path.under(&self.options.root)], Order::First);
        }
        was_shown
    }

    pub(super) fn tell_changed(&self, paths: &[RepoPath]) {
        if !paths.is_empty() {
            (self.options.on_change)(paths);
        }
    }

    /// Whether there is more to look at, as far as is known.
    fn has_more(&self) -> bool {
        !self.waiting.is_empty() || self.must_walk || self.walks
    }

    fn changed_something(&mut self) {
        self.is_dirty = true;
        self.last_change = Instant::now();
    }

    fn start_watching(&mut self) {
        if self.options.watch == Watching::Off {
            return;
        }
        let inbox = self.inbox.clone();
        let heard = move |change| match change {
            Change::Paths(paths) => inbox.changed(paths),
            Change::Git => inbox.git(),
            Change::Lost => inbox.rescan(),
        };
        match Watch::start(&self.options.root, heard) {
            Ok(watch) => self.watch = Some(Arc::new(watch)),
            Err(error) => self.trouble(Part::Watch, &format!("files cannot be watched: {error}")),
        }
    }

    fn n_vectors(&self) -> usize {
        let log = self.stores.as_ref().and_then(|s| s.outside.as_ref());
        log.map_or(0, VectorLog::n_rows)
    }

    /// Notes what is wrong with a file.
    fn fault(&mut self, path: impl Into<String>, message: &(impl ToString + ?Sized)) {
        self.note((path.into(), Part::File), message);
    }

    /// Notes what is wrong with a part of the index.
    fn trouble(&mut self, part: Part, message: &(impl ToString + ?Sized)) {
        self.note((String::new(), part), message);
    }

    fn note(&mut self, of: Of, message: &(impl ToString + ?Sized)) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.insert(of, message.to_string());
        }
    }

    fn forgive(&mut self, part: Part) {
        self.faults.remove(&(String::new(), part));
    }

    /// Tells the status to whoever asks or waits.
    fn report(&mut self) {
        if self.phase == Phase::Indexing && self.waiting.is_empty() && !self.is_dirty {
            self.phase = Phase::Ready;
        }
        let faults = self.faults.iter().take(SHOWN_FAULTS);
        let status = Status {
            phase: match self.phase {
                Phase::Ready if self.reads_history => Phase::Indexing,
                phase => phase,
            },
            role: if self.stores.is_some() || self.retry_at.is_some() {
                Role::Writer
            } else {
                Role::Follower
            },
            n_files: self.files.len(),
            n_indexed: self.base.n_indexed() + self.fresh.len(),
            pending: self.waiting.len(),
            indexed_commit: self.indexed_commit.clone(),
            head: (*self.head).clone(),
            faults: faults
                .map(|((path, _), message)| Fault::new(path.clone(), message))
                .collect(),
            n_faults: self.faults.len(),
            generation: self.generation,
            n_chunks: self.base.text.n_chunks(),
            n_names: self.base.names.len(),
            n_commits: self.history.commits().len(),
            n_vectors: self.n_vectors(),
            n_wanted_vectors: 0,
        };
        let mut state = self.shared.lock();
        let status = Status {
            n_wanted_vectors: state.wanted.len(),
            ..status
        };
        let changed = state.status != status;
        // Said, but its files still wait: only counts as handled once they have been looked at.
        if !self.has_more() {
            state.n_handled = self.n_told;
        }
        state.status = status.clone();
        drop(state);
        self.shared.published.notify_all();
        if changed {
            (self.options.on_status)(&status);
        }
    }
}

/// Gives way to everything else on the machine, where that can be asked of one thread.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "indexing runs at normal priority");
    }
}
