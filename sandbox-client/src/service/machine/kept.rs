//! Templates between one service and the next: files in the state directory.
//!
//! Each is a directory with the memory (as sparse as it is), the state of the devices, what stands
//! for the kernel, and a manifest with the checksum of all three, made under another name and put in
//! place whole. Holds: what does not match its manifest is removed and made again; only this user
//! can read it, as it has the state of a random number generator.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use serde::{Deserialize, Serialize};

use super::stock::Key;
use super::template::{self, Template};

/// Below the state directory.
const DIRECTORY: &str = "machines";
/// Kept at one time; those that were used longest ago go first.
const MOST: usize = 4;
/// Memory is looked at and hashed in pieces.
const PIECE: usize = 64 << 10;
/// Files beside the memory are no larger.
const SMALL: u64 = 64 << 20;

const MEMORY: &str = "memory";
const STATE: &str = "state";
const KERNEL: &str = "kernel";
const MANIFEST: &str = "manifest.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    memory_bytes: u64,
    /// BLAKE3 over the other files.
    checksum: String,
}

fn place(state: &Path, key: &Key) -> PathBuf {
    state.join(DIRECTORY).join(&key.0)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads a template. One that is broken is removed. The memory is still to be sealed.
pub(super) fn load(state: &Path, key: &Key) -> Option<Template> {
    let place = place(state, key);
    if !place.is_dir() {
        return None;
    }
    let read = read(&place);
    if read.is_err() {
        discard(state, key);
    }
    read.ok()
}

/// Removes a template that is of no use.
pub(super) fn discard(state: &Path, key: &Key) {
    let _ = fs::remove_dir_all(place(state, key));
}

fn small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SMALL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(place: &Path) -> io::Result<Template> {
    let manifest = File::options()
        .read(true)
        .write(true)
        .open(place.join(MANIFEST))?;
    let told: Manifest = serde_json::from_reader((&manifest).take(SMALL))?;
    let (state, kernel) = (small(&place.join(STATE))?, small(&place.join(KERNEL))?);
    let from = File::open(place.join(MEMORY))?;
    if from.metadata()?.len() != told.memory_bytes {
        return Err(wrong("the memory has another size"));
    }
    let memory = template::empty(told.memory_bytes)?;
    let to = File::from(memory.try_clone()?);
    let checksum = copy(&from, &to, &state, &kernel)?;
    if checksum.to_hex().as_str() != told.checksum {
        return Err(wrong("the checksum is another"));
    }
    // It was used now.
    let _ = manifest.set_modified(std::time::SystemTime::now());
    Ok(Template {
        memory,
        state,
        kernel,
    })
}

/// Copies memory but for its zeros, and returns the checksum of it and the rest.
fn copy(from: &File, to: &File, state: &[u8], kernel: &[u8]) -> io::Result<blake3::Hash> {
    let mut digest = blake3::Hasher::new();
    for part in [state, kernel] {
        digest
            .update(&(part.len() as u64).to_le_bytes())
            .update(part);
    }
    let size = from.metadata()?.len();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        // What was never written is not read.
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data - data % PIECE as u64,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let n = PIECE.min(usize::try_from(size - at).unwrap_or(PIECE));
        let piece = &mut piece[..n];
        from.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            digest.update(&at.to_le_bytes()).update(piece);
            to.write_all_at(piece, at)?;
        }
        at += n as u64;
    }
    Ok(digest.finalize())
}

/// Writes a template down, and removes those that were used longest ago.
pub(super) fn keep(state: &Path, key: &Key, template: &Template) -> io::Result<()> {
    let all = state.join(DIRECTORY);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&all)?;
    let place = tempfile::Builder::new().prefix(".new-").tempdir_in(&all)?;
    let create = |name: &str| {
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(place.path().join(name))
    };
    let from = File::from(template.memory.try_clone()?);
    let memory_bytes = from.metadata()?.len();
    let to = create(MEMORY)?;
    to.set_len(memory_bytes)?;
    let checksum = copy(&from, &to, &template.state, &template.kernel)?;
    create(STATE)?.write_all(&template.state)?;
    create(KERNEL)?.write_all(&template.kernel)?;
    let manifest = Manifest {
        memory_bytes,
        checksum: checksum.to_hex().to_string(),
    };
    serde_json::to_writer(create(MANIFEST)?, &manifest)?;
    let there = self::place(state, key);
    let place = place.keep();
    if fs::rename(&place, &there).is_err() {
        // Another service was faster, which is as good.
        let _ = fs::remove_dir_all(&place);
    }
    tidy(&all);
    Ok(())
}

/// Removes what is too many, and what a service that was killed left half-made.
fn tidy(all: &Path) {
    const HALF_MADE: std::time::Duration = std::time::Duration::from_secs(3_600);
    let mut kept = Vec::new();
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let used = fs::metadata(path.join(MANIFEST)).and_then(|manifest| manifest.modified());
        match used {
            Ok(used) if !entry.file_name().to_string_lossy().starts_with('.') => {
                kept.push((used, path));
            }
            _ => {
                let made = entry.metadata().and_then(|found| found.modified());
                if made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > HALF_MADE)) {
                    let _ = fs::remove_dir_all(path);
                }
            }
        }
    }
    kept.sort();
    let over = kept.len().saturating_sub(MOST);
    for (_, path) in kept.into_iter().take(over) {
        let _ = fs::remove_dir_all(path);
    }
}
