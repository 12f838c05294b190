//! From memory to disk and to readers; and what a process does that has not its turn to write.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        Phase,
        examine::rows,
        publish::{Stores, read_published},
    },
    FIRST_PUBLISH, MAX_IN_MEMORY, MAX_WANTED, QUIET, RETRY, Writer,
};
use crate::{
    reader::{Base, Overlay, Reader},
    store::{Manifest, StoreError},
    vector::{ChunkId, Row, VectorModel},
};

impl Writer {
    pub(super) fn keep_vectors(&mut self, vectors: Vec<(ChunkId, Vec<f32>)>) {
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
            self.fault("", &error);
        }
        self.changed_something();
    }

    pub(super) fn publish_if_due(&mut self) {
        if self.stores.is_none() || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        if !self.is_dirty {
            // Whoever waits for everything to be on disk has it.
            self.must_settle &= !self.waiting.is_empty();
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
    pub(super) fn publish(&mut self) {
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
                self.fault("publish", &error);
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
    pub(super) fn show(&self) {
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
    pub(super) fn want_vectors(&self) {
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
                let id = ChunkId {
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
    pub(super) fn ask_for_turn(&mut self) {
        match self.layout.lock() {
            Ok(Some(lock)) => match Stores::open(&self.layout, lock, &self.options.vectors) {
                Ok((mut stores, opened)) => {
                    for fault in opened.faults {
                        tracing::warn!("{}", fault.message);
                    }
                    self.generation = opened.manifest.generation;
                    let base = stores.base(opened.manifest.files);
                    self.stores = Some(stores);
                    self.adopt(base);
                }
                Err(error) => self.fault("", &error),
            },
            Ok(None) => match Manifest::read(&self.layout.manifest()) {
                Ok(Some(manifest)) if manifest.generation != self.generation => {
                    match read_published(&self.layout) {
                        Ok(Some((base, manifest))) => {
                            self.generation = manifest.generation;
                            self.adopt(Ok(base));
                        }
                        Ok(None) => {}
                        Err(error) => self.fault("", &error),
                    }
                }
                Ok(_) => {}
                Err(error) => self.fault("", &error),
            },
            Err(error) => self.fault("", &error),
        }
    }

    /// Takes a base made by another process and looks at everything once more against it.
    pub(super) fn adopt(&mut self, base: Result<Base, StoreError>) {
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
            Err(error) => self.fault("", &error),
        }
    }
}
