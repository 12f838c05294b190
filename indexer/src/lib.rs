//! Finds the right code in a repository; knows git, syntax and ranking, not LSP, HTTP or tokio.
//!
//! ```text
//! walk ─► update (one writer thread) ─► store + text + vector (on disk)
//! repo ─►   │                            │
//! buffers ─►│                            ▼
//!           └────────► Reader: an immutable view, asked by
//!                      search (files, chunks, packed context) · graph::map (repository map)
//!                      · context (what a completion at the cursor should see)
//! ```
//!
//! [`Index::open`] starts the writer; [`Index::reader`] gives the newest [`Reader`], which never
//! changes and never waits. Everything a repository holds is taken as hostile: sizes, counts and
//! times are capped, a bad file is a [`Fault`], and only the cache folder is written
//! (and a [`Worktree`] that was asked for).

mod context;
pub mod fit;
mod graph;
mod path;
mod rank;
mod reader;
mod repo;
mod search;
mod store;
mod syntax;
mod text;
mod update;
mod vector;
mod walk;

pub use self::{
    context::{CursorQuery, Relevant},
    graph::map::{MapQuery, RepoMap},
    path::{ContentHash, RepoPath, Tokens},
    reader::Reader,
    repo::{
        Head,
        age::{Age, age},
        head,
        uncommitted::{Content, Uncommitted, uncommitted},
        worktree::{self, Worktree, WorktreeError},
    },
    search::{ChunkHit, FileHit, Query, Reason, pack::Snippet, signal_names},
    store::StoreError,
    syntax::{Chunk, Definition, DefinitionKind, Identifier, Language, NameStyle, Unit},
    update::{Footprint, Index, OnChange, Options, Phase, Role, Status, Watching},
    vector::{ChunkId, OutsideModel},
    walk::{Fault, FileClass, IGNORE_FILE},
};
