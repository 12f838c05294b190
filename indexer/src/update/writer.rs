//! The one thread that changes the index.
//!
//! A round takes the mail, shows open buffers, then looks at one batch of waiting files, so that a
//! keystroke never waits longer than a batch. Few changes stay in memory over the base until it is
//! quiet; many go straight to disk and are published now and then, less often as it grows.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use rustc_hash::{FxHashMap, FxHashSet};
use tree_sitter::Tree;

use super::{
    Options, Phase, Role, Shared, State, Status, Watching,
    examine::{Known, Outcome, examine, now, rows},
    inbox::{Inbox, Mail, Patience},
    publish::{Stores, empty, read_published},
};
use crate::{
    path::{ContentHash, RepoPath},
    reader::{Base, Overlay, OverlayFile, Reader},
    repo::{Head, Repo, history::History},
    store::{FileEntry, Layout, Manifest, StoreError, UnitKey},
    syntax::{Language, Parser},
    vector::{Row, VectorModel},
    walk::{
        Fault, IGNORE_FILE, Stat,
        class::{self, FileClass},
        not_ignored, walk,
        watch::{Change, Watch},
    },
};

/// Files looked at between two looks at the mail.
const BATCH: usize = 96;
/// Up to this many waiting files go to the overlay, more go straight to disk.
const MAX_IN_MEMORY: usize = 400;
/// Quiet time before what is in memory is published.
const QUIET: Duration = Duration::from_secs(3);
/// How often a follower asks for its turn.
const TURN: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(30);
const FIRST_PUBLISH: Duration = Duration::from_millis(1_500);
const MAX_FAULTS: usize = 10_000;
const SHOWN_FAULTS: usize = 100;
const MAX_WANTED: usize = 4_096;

/// An open buffer.
struct Buffer {
    text: Arc<str>,
    tree: Option<Tree>,
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
    watch: Option<Watch>,
    /// `None` while another process writes.
    stores: Option<Stores>,
    /// The files as last looked at, published or not.
    files: BTreeMap<RepoPath, FileEntry>,
    base: Arc<Base>,
    /// Saved files that are newer than the base, and files that went.
    fresh: FxHashMap<RepoPath, Arc<OverlayFile>>,
    gone: FxHashSet<RepoPath>,
    buffers: FxHashMap<RepoPath, Buffer>,
    waiting: VecDeque<RepoPath>,
    is_waiting: FxHashSet<RepoPath>,
    history: Arc<History>,
    head: Arc<Head>,
    branch_files: Arc<[RepoPath]>,
    reads_history: bool,
    faults: BTreeMap<String, String>,
    phase: Phase,
    generation: u64,
    indexed_commit: Option<String>,
    /// Something is only in memory that belongs on disk.
    is_dirty: bool,
    must_settle: bool,
    last_change: Instant,
    last_publish: Instant,
    publish_interval: Duration,
    retry_at: Option<Instant>,
    n_handled: u64,
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
                let (mut stores, opened) = Stores::open(&layout, lock, &options.vectors)?;
                for fault in opened.faults {
                    faults.insert(fault.path, fault.message);
                }
                let mut manifest = opened.manifest;
                let embeds = options.vectors == VectorModel::Embedded;
                for file in &mut manifest.files {
                    // What is not all there is looked at again.
                    file.unit = file
                        .unit
                        .filter(|&unit| stores.known(unit, embeds).is_some());
                    if file.unit.is_none() && file.class == FileClass::Content {
                        file.stat = Stat::default();
                    }
                }
                let base = stores.base(manifest.files.clone())?;
                (Some(stores), base, manifest)
            }
            None => match read_published(&layout) {
                Ok(Some((base, manifest))) => (None, base, manifest),
                Ok(None) | Err(_) => (None, empty()?, Manifest::default()),
            },
        };
        let history = History::read(&layout.history()).unwrap_or_else(|error| {
            faults.insert(String::new(), format!("reading the history again: {error}"));
            History::default()
        });
        let base = Arc::new(base);
        let reader = Reader {
            root: Arc::new(options.root.clone()),
            base: base.clone(),
            overlay: Arc::default(),
            history: Arc::new(history),
            head: Arc::default(),
            branch_files: Arc::default(),
        };
        let history = reader.history.clone();
        let state = State {
            reader,
            status: Status::default(),
            wanted: Vec::new(),
            n_handled: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            published: Condvar::new(),
        });
        let now = Instant::now();
        let writer = Self {
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
            waiting: VecDeque::new(),
            is_waiting: FxHashSet::default(),
            history,
            head: Arc::default(),
            branch_files: Arc::default(),
            reads_history: false,
            faults,
            phase: Phase::Scanning,
            generation: manifest.generation,
            indexed_commit: manifest.commit,
            is_dirty: false,
            must_settle: false,
            last_change: now,
            last_publish: now,
            publish_interval: FIRST_PUBLISH,
            retry_at: None,
            n_handled: 0,
            options,
            layout,
        };
        Ok((writer, shared))
    }

    /// Works until the index is dropped.
    pub(super) fn run(mut self) {
        self.repo = Repo::open(&self.options.root);
        self.start_watching();
        self.look_at_git();
        // Buffers may already be open; they come before the long look at everything.
        let mail = self.inbox.take(Patience::None);
        let stops = mail.stop;
        self.handle(mail);
        if stops {
            return;
        }
        self.reconcile();
        loop {
            self.report();
            let mail = self.inbox.take(self.patience());
            let stops = mail.stop;
            self.handle(mail);
            if stops {
                break;
            }
            self.look_at_batch();
            self.publish_if_due();
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
        } else if !has_turn {
            Patience::Until(Instant::now() + TURN)
        } else if self.is_dirty {
            let due = self.last_change + QUIET;
            Patience::Until(self.retry_at.map_or(due, |retry| retry.max(due)))
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
        if let Some((history, branch_files)) = mail.history {
            self.reads_history = false;
            if self.stores.is_some()
                && let Err(error) = history.write(&self.layout.history())
            {
                self.fault("", error);
            }
            self.history = Arc::new(history);
            self.branch_files = branch_files.into();
            self.show();
        }
        if mail.git {
            self.look_at_git();
        }
        if mail.rescan {
            self.reconcile();
        } else if !mail.paths.is_empty() {
            self.look_at(mail.paths.into_iter().collect());
        }
        if !mail.vectors.is_empty() {
            self.keep_vectors(mail.vectors);
        }
        self.must_settle |= mail.settle;
        // Said, but its files still wait: only counts as handled once they have been looked at.
        if self.waiting.is_empty() {
            self.n_handled = mail.n_messages;
        }
    }

    /// Parses the new text of a buffer; returns whether it can be seen.
    fn show_buffer(&mut self, path: RepoPath, text: Arc<str>) -> bool {
        if class::by_name(path.as_str()) != FileClass::Content
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
            .and_then(|previous| Some((previous.text, previous.tree?)));
        let (parsed, tree) = self.parser.reparse(
            language,
            &text,
            previous
                .as_ref()
                .map(|(text, tree)| (&**text, tree.clone())),
        );
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
        self.buffers.insert(path, Buffer { text, tree, file });
        true
    }

    fn close_buffer(&mut self, path: &RepoPath) -> bool {
        self.await_file(path.clone(), Order::First);
        self.buffers.remove(path).is_some()
    }

    /// Returns whether the workspace's rules let a path in: known, new, or not ignored.
    fn is_ours(&self, path: &RepoPath) -> bool {
        self.files.contains_key(path)
            || self.buffers.contains_key(path)
            || !path.under(&self.options.root).exists()
            || !not_ignored(&self.options.root, std::slice::from_ref(path)).is_empty()
    }

    /// Puts paths that may have changed in line, folders with everything in them.
    fn look_at(&mut self, paths: Vec<std::path::PathBuf>) {
        let root = self.options.root.clone();
        let mut unknown = Vec::new();
        let mut needs_walk = false;
        for on_disk in paths {
            let Some(path) = RepoPath::below(&root, &on_disk) else {
                continue;
            };
            let name = path.file_name();
            needs_walk |= name == ".gitignore" || name == ".ignore" || name == IGNORE_FILE;
            if self.files.contains_key(&path) {
                self.await_file(path, Order::First);
            } else if on_disk.is_dir() {
                needs_walk = true;
            } else if on_disk.is_file() {
                unknown.push(path);
            } else {
                // A folder may have gone: everything that was in it is looked at.
                let inside = format!("{path}/");
                let lost: Vec<_> = self
                    .files
                    .range(RepoPath::from(inside.clone())..)
                    .take_while(|(path, _)| path.as_str().starts_with(&inside))
                    .map(|(path, _)| path.clone())
                    .collect();
                for path in lost {
                    self.await_file(path, Order::First);
                }
            }
        }
        if needs_walk {
            self.reconcile();
        } else if !unknown.is_empty() {
            for path in not_ignored(&root, &unknown) {
                self.await_file(path, Order::First);
            }
        }
    }

    /// Lists all files and puts those in line that are new, changed or gone.
    fn reconcile(&mut self) {
        if self.phase == Phase::Scanning {
            self.report();
        }
        let walked = self
            .pool
            .install(|| walk(&self.options.root, self.options.threads));
        if let Some(watch) = &mut self.watch
            && let Err(error) = watch.add(&walked.folders)
        {
            self.fault("", format!("some folders cannot be watched: {error}"));
        }
        for fault in walked.faults {
            self.fault(fault.path, fault.message);
        }
        let mut changed: Vec<(i64, RepoPath)> = Vec::new();
        let mut lost: FxHashSet<RepoPath> = self.files.keys().cloned().collect();
        for (path, stat) in walked.files {
            lost.remove(&path);
            if !self
                .files
                .get(&path)
                .is_some_and(|entry| entry.is_current(stat))
            {
                changed.push((-stat.modified, path));
            }
        }
        changed.sort_unstable();
        for path in lost
            .into_iter()
            .chain(changed.into_iter().map(|(_, path)| path))
        {
            self.await_file(path, Order::Last);
        }
        for path in self.buffers.keys().cloned().collect::<Vec<_>>() {
            if self.is_waiting.contains(&path) {
                self.await_file(path, Order::First);
            }
        }
        self.phase = Phase::Indexing;
    }

    /// Notices a new commit or branch, and reads its history in the background.
    fn look_at_git(&mut self) {
        if self.repo.is_none() {
            self.repo = Repo::open(&self.options.root);
        }
        let Some(repo) = self.repo.clone() else {
            return;
        };
        let head = repo.head();
        if *self.head == head {
            return;
        }
        let commits = (self.head.commit.as_deref(), head.commit.as_deref());
        if let (Some(old), Some(new)) = commits
            && old != new
        {
            for path in repo.changed_between(old, new).unwrap_or_default() {
                if self.files.contains_key(&path) || path.under(&self.options.root).is_file() {
                    self.await_file(path, Order::Last);
                }
            }
        }
        let is_new = self.head.commit != head.commit || self.head.branch != head.branch;
        self.head = Arc::new(head);
        if is_new && !self.reads_history {
            self.reads_history = true;
            let (inbox, known) = (self.inbox.clone(), self.history.clone());
            self.pool.spawn(move || {
                let history = repo.history(&known).unwrap_or_default();
                inbox.history(history, repo.branch_files());
            });
        }
    }

    /// Looks at the next waiting files.
    fn look_at_batch(&mut self) {
        if self.waiting.is_empty() {
            if self.phase == Phase::Indexing {
                self.indexed_commit.clone_from(&self.head.commit);
                self.phase = if self.is_dirty {
                    Phase::Indexing
                } else {
                    Phase::Ready
                };
            }
            return;
        }
        let in_memory = self.stores.is_none() || self.waiting.len() <= MAX_IN_MEMORY;
        if self.stores.is_none() && self.fresh.len() >= 4 * MAX_IN_MEMORY {
            self.fault(
                "",
                "another process is indexing this workspace; waiting for its turn",
            );
            return;
        }
        let batch: Vec<RepoPath> = self
            .waiting
            .drain(..self.waiting.len().min(BATCH))
            .collect();
        for path in &batch {
            self.is_waiting.remove(path);
        }
        let embeds = self.options.vectors == VectorModel::Embedded;
        let (files, root, stores) = (&self.files, &self.options.root, &self.stores);
        let unit = |unit| {
            // In memory, a file must be parsed to be shown, whether it is stored or not.
            let stores = stores.as_ref().filter(|_| !in_memory)?;
            stores.known(unit, embeds)
        };
        let known = Known {
            unit: &unit,
            embeds,
        };
        let looked: Vec<(Outcome, Option<Fault>)> = self.pool.install(|| {
            batch
                .par_iter()
                .map(|path| examine(root, path, files.get(path), &known))
                .collect()
        });
        for (path, (outcome, fault)) in batch.into_iter().zip(looked) {
            match fault {
                Some(fault) => self.fault(fault.path, fault.message),
                None => {
                    self.faults.remove(path.as_str());
                }
            }
            match outcome {
                Outcome::Gone => self.forget(path),
                Outcome::Entry(entry) => self.keep_entry(path, entry),
                Outcome::Parsed(parsed) => {
                    let (entry, parsed, rows) = *parsed;
                    if in_memory {
                        self.keep_in_memory(path, entry, parsed);
                    } else {
                        self.keep_on_disk(path, entry, parsed, &rows);
                    }
                }
            }
        }
        self.phase = Phase::Indexing;
        if in_memory {
            self.show();
        }
    }

    fn forget(&mut self, path: RepoPath) {
        if self.files.remove(&path).is_some() {
            self.fresh.remove(&path);
            self.gone.insert(path);
            self.changed_something();
        }
    }

    fn keep_entry(&mut self, path: RepoPath, entry: FileEntry) {
        let before = self.files.insert(path.clone(), entry.clone());
        if before.as_ref() == Some(&entry) {
            return;
        }
        let is_same = before.is_some_and(|b| b.unit == entry.unit && b.class == entry.class);
        if !is_same {
            self.fresh.remove(&path);
            self.gone.remove(&path);
            if entry.unit.is_none() && self.base.slot(&path).is_some() {
                // The base shows content that is no longer indexed.
                self.gone.insert(path);
            }
        }
        self.changed_something();
    }

    fn keep_in_memory(&mut self, path: RepoPath, entry: FileEntry, parsed: crate::syntax::Parsed) {
        let in_base = self
            .base
            .slot(&path)
            .map(|slot| &self.base.files[slot as usize]);
        let is_same = in_base.is_some_and(|before| before.unit == entry.unit);
        self.gone.remove(&path);
        self.files.insert(path.clone(), entry.clone());
        if is_same {
            self.fresh.remove(&path);
        } else {
            self.fresh
                .insert(path, Arc::new(OverlayFile::new(entry, parsed, None)));
        }
        self.changed_something();
    }

    fn keep_on_disk(
        &mut self,
        path: RepoPath,
        mut entry: FileEntry,
        parsed: crate::syntax::Parsed,
        rows: &[Row],
    ) {
        if let (Some(stores), Some(unit)) = (&mut self.stores, entry.unit)
            && let Err(error) = stores.add(unit, parsed, rows)
        {
            entry.unit = None;
            self.fault("", error);
        }
        self.fresh.remove(&path);
        self.gone.remove(&path);
        self.files.insert(path, entry);
        self.changed_something();
    }

    fn changed_something(&mut self) {
        self.is_dirty = true;
        self.last_change = Instant::now();
    }

    fn keep_vectors(&mut self, vectors: Vec<(crate::vector::ChunkId, Vec<f32>)>) {
        let dimensions = self.options.vectors.dimensions();
        let is_external = matches!(self.options.vectors, VectorModel::External { .. });
        let Some(log) = self
            .stores
            .as_mut()
            .and_then(|stores| stores.vectors.as_mut())
        else {
            return;
        };
        if !is_external {
            return;
        }
        let rows: Vec<Row> = vectors
            .into_iter()
            .filter(|(_, vector)| {
                vector.len() == dimensions && vector.iter().all(|x| x.is_finite())
            })
            .map(|(id, vector)| Row::new(id, &vector))
            .collect();
        if let Err(error) = log.append(&rows) {
            self.fault("", error);
        }
        self.changed_something();
    }

    fn publish_if_due(&mut self) {
        if self.stores.is_none()
            || !self.is_dirty
            || self.retry_at.is_some_and(|at| at > Instant::now())
        {
            return;
        }
        let is_quiet = self.last_change.elapsed() >= QUIET;
        let is_bulk = self.fresh.is_empty() && self.gone.is_empty();
        let is_due = if self.waiting.is_empty() {
            is_quiet || self.must_settle || is_bulk || self.fresh.len() > MAX_IN_MEMORY
        } else {
            self.last_publish.elapsed() >= self.publish_interval && self.fresh.len() < MAX_IN_MEMORY
                || self.fresh.len() >= MAX_IN_MEMORY
        };
        if is_due {
            self.publish();
        }
    }

    /// Puts everything on disk and makes it the base; on failure all stays as it was.
    fn publish(&mut self) {
        let started = Instant::now();
        let Some(stores) = &mut self.stores else {
            return;
        };
        let embeds = self.options.vectors == VectorModel::Embedded;
        let mut publish = || -> Result<Base, StoreError> {
            for file in self.fresh.values() {
                let Some(unit) = file.entry.unit else {
                    continue;
                };
                if stores.known(unit, embeds).is_none() {
                    let rows = if embeds {
                        rows(unit, &file.parsed)
                    } else {
                        Vec::new()
                    };
                    stores.add(unit, file.parsed.clone(), &rows)?;
                }
            }
            let manifest = Manifest {
                files: self.files.values().cloned().collect(),
                commit: self.indexed_commit.clone(),
                generation: self.generation + 1,
            };
            stores.publish(&manifest, self.options.disk_cap)
        };
        match publish() {
            Ok(base) => {
                self.generation += 1;
                self.base = Arc::new(base);
                self.fresh.clear();
                self.gone.clear();
                self.is_dirty = false;
                self.retry_at = None;
                self.must_settle = false;
                self.faults.remove("publish");
                if self.waiting.is_empty() && self.phase == Phase::Indexing {
                    self.indexed_commit.clone_from(&self.head.commit);
                    self.phase = Phase::Ready;
                }
                self.show();
                self.want_vectors();
            }
            Err(error) => {
                tracing::warn!(%error, "the index cannot be published");
                self.fault("publish", error);
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        self.last_publish = Instant::now();
        // Publishing stays a small part of a long build.
        self.publish_interval = (3 * self.publish_interval)
            .min(Duration::from_secs(120))
            .max(8 * started.elapsed());
        if self.waiting.is_empty() {
            self.publish_interval = FIRST_PUBLISH;
        }
    }

    /// Publishes a reader of the present state, in memory.
    fn show(&self) {
        let files = self
            .fresh
            .iter()
            .filter(|(path, _)| !self.buffers.contains_key(*path))
            .map(|(_, file)| file.clone())
            .chain(self.buffers.values().map(|buffer| buffer.file.clone()));
        let gone = self
            .gone
            .iter()
            .filter(|path| !self.buffers.contains_key(*path))
            .cloned();
        let overlay = Overlay::new(&self.base, files, gone);
        let mut state = self.shared.lock();
        state.reader = Reader {
            root: state.reader.root.clone(),
            base: self.base.clone(),
            overlay: Arc::new(overlay),
            history: self.history.clone(),
            head: self.head.clone(),
            branch_files: self.branch_files.clone(),
        };
    }

    /// Lists chunks that the outside model has not seen.
    fn want_vectors(&self) {
        let VectorModel::External { .. } = self.options.vectors else {
            return;
        };
        let Some(vectors) = self
            .stores
            .as_ref()
            .and_then(|stores| stores.vectors.as_ref())
        else {
            return;
        };
        let reader = self.shared.lock().reader.clone();
        let mut wanted = Vec::new();
        for slot in reader.slots() {
            let entry = reader.entry(slot);
            let Some(unit) = entry.unit.filter(|&unit| !vectors.contains(unit)) else {
                continue;
            };
            let Some(parsed) = reader.unit_at(slot) else {
                continue;
            };
            for (at, chunk) in parsed.chunks.iter().enumerate() {
                let id = crate::vector::ChunkId {
                    unit,
                    chunk: at as u32,
                };
                wanted.push((id, entry.path.clone(), chunk.first_line, chunk.end_line));
            }
            if wanted.len() >= MAX_WANTED {
                break;
            }
        }
        self.shared.lock().wanted = wanted;
    }

    /// As a follower: takes over when the other process is gone, else reads what it published.
    fn ask_for_turn(&mut self) {
        match self.layout.lock() {
            Ok(Some(lock)) => match Stores::open(&self.layout, lock, &self.options.vectors) {
                Ok((mut stores, opened)) => {
                    self.generation = opened.manifest.generation;
                    let base = stores.base(opened.manifest.files);
                    self.stores = Some(stores);
                    self.adopt(base);
                }
                Err(error) => self.fault("", error),
            },
            Ok(None) => match Manifest::read(&self.layout.manifest()) {
                Ok(Some(manifest)) if manifest.generation != self.generation => {
                    self.generation = manifest.generation;
                    match read_published(&self.layout) {
                        Ok(Some((base, _))) => self.adopt(Ok(base)),
                        Ok(None) => {}
                        Err(error) => self.fault("", error),
                    }
                }
                Ok(_) => {}
                Err(error) => self.fault("", error),
            },
            Err(error) => self.fault("", error),
        }
    }

    /// Takes a base made by another process and looks at everything once more against it.
    fn adopt(&mut self, base: Result<Base, StoreError>) {
        match base {
            Ok(base) => {
                self.files = base
                    .files
                    .iter()
                    .map(|file| (file.path.clone(), file.clone()))
                    .collect();
                self.base = Arc::new(base);
                self.fresh.clear();
                self.gone.clear();
                self.faults.remove("");
                self.reconcile();
                self.show();
            }
            Err(error) => self.fault("", error),
        }
    }

    fn start_watching(&mut self) {
        if self.options.watch == Watching::Off {
            return;
        }
        let inbox = self.inbox.clone();
        let git_dir = self.repo.as_ref().map(Repo::git_dir);
        let heard = move |change| match change {
            Change::Paths(paths) => inbox.changed(paths),
            Change::Git => inbox.git(),
            Change::Lost => inbox.rescan(),
        };
        match Watch::start(&self.options.root, git_dir.as_deref(), heard) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => self.fault("", format!("files cannot be watched: {error}")),
        }
    }

    fn await_file(&mut self, path: RepoPath, order: Order) {
        let is_new = self.is_waiting.insert(path.clone());
        match order {
            Order::First => self.waiting.push_front(path),
            Order::Last if is_new => self.waiting.push_back(path),
            Order::Last => {}
        }
    }

    fn fault(&mut self, path: impl Into<String>, message: impl ToString) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.insert(path.into(), message.to_string());
        }
    }

    /// Tells the status to whoever asks or waits.
    fn report(&mut self) {
        if self.phase == Phase::Indexing && self.waiting.is_empty() && !self.is_dirty {
            self.phase = Phase::Ready;
        }
        let faults = self.faults.iter().take(SHOWN_FAULTS);
        let status = Status {
            phase: self.phase,
            role: if self.stores.is_some() {
                Role::Writer
            } else {
                Role::Follower
            },
            n_files: self.files.len(),
            n_indexed: self.base.n_indexed() + self.fresh.len(),
            pending: self.is_waiting.len(),
            indexed_commit: self.indexed_commit.clone(),
            head: (*self.head).clone(),
            faults: faults
                .map(|(path, message)| Fault::new(path.clone(), message))
                .collect(),
            n_faults: self.faults.len(),
            generation: self.generation,
            n_chunks: self.base.text.n_chunks(),
            n_names: self.base.names.len(),
            n_commits: self.history.commits().len(),
        };
        let mut state = self.shared.lock();
        let changed = state.status != status;
        state.n_handled = self.n_handled;
        state.status = status.clone();
        drop(state);
        self.shared.published.notify_all();
        if changed {
            (self.options.on_status)(&status);
        }
    }
}

/// Where in the line a file goes.
#[derive(Clone, Copy)]
enum Order {
    First,
    Last,
}

/// Gives way to everything else on the machine, where that can be asked of one thread.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "indexing runs at normal priority");
    }
}
