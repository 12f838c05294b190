//! Tasks through the real program: a scripted model, a real repository, a real sandbox.

mod branch;
mod cases;
mod ceilings;
mod compaction;
mod diagnostics;
#[cfg(target_os = "linux")]
mod elsewhere;
mod fallback;
mod injection;
#[cfg(target_os = "linux")]
mod kept;
mod kill;
mod live;
mod lsp;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
mod mcp;
mod run;
mod scope;
mod startup;
mod symbols;
mod terminal;
mod trust;
mod unfinished;
