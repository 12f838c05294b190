//! What each content says: an append-only file of records that check themselves.
//!
//! A record is `length u32 · checksum u32 · key u64 · length of the unit u32 · unit (postcard) ·
//! identifiers (6 bytes each)`, little endian. Opening reads the file from its start and cuts it
//! at the first record that does not check: what follows a torn write is lost, nothing else.
//! Records are read by position, not mapped, so a file cut short by someone else is an error and
//! not a signal, and the pages do not count as ours.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{StoreError, UnitKey};
use crate::{
    path::name_hash,
    syntax::{Identifier, NameStyle, Unit},
};

const HEADER: usize = 16;
/// A longer record is damage: the largest file read is far smaller.
const MAX_RECORD: u32 = 64 << 20;

/// Where a unit's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    offset: u64,
    len: u32,
}

/// What is kept in memory of every unit.
#[derive(Clone, Debug)]
pub(crate) struct UnitInfo {
    pub(crate) location: Location,
    /// Hashes of the names it defines, in rising order, each once.
    pub(crate) names: Arc<[u32]>,
    pub(crate) n_lines: u32,
    pub(crate) n_definitions: u32,
}

impl UnitInfo {
    fn new(location: Location, unit: &Unit) -> Self {
        Self {
            location,
            names: defined_names(unit),
            n_lines: unit.n_lines,
            n_definitions: unit.definitions.len() as u32,
        }
    }
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct UnitLog {
    path: PathBuf,
    file: BufWriter<File>,
    reader: UnitReader,
    end: u64,
    units: FxHashMap<UnitKey, UnitInfo>,
}

/// Reads units by their place; cheap to clone, usable from every thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitReader {
    /// `None` when there is nothing to read.
    file: Option<Arc<File>>,
}

impl UnitLog {
    /// Opens or creates the log and cuts off what is damaged; returns how many bytes that were.
    pub(crate) fn open(path: &Path) -> Result<(Self, u64), StoreError> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
        };
        let file = open().map_err(StoreError::io("open", path))?;
        let len = file.metadata().map_err(StoreError::io("open", path))?.len();
        let (units, end) = scan(&file).map_err(StoreError::io("read", path))?;
        if end < len {
            file.set_len(end).map_err(StoreError::io("cut", path))?;
        }
        let reader = UnitReader {
            file: Some(Arc::new(open().map_err(StoreError::io("open", path))?)),
        };
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok((
            Self {
                path: path.to_owned(),
                file,
                reader,
                end,
                units,
            },
            len - end,
        ))
    }

    /// Opens what another process writes, without touching it.
    pub(crate) fn open_read_only(
        path: &Path,
    ) -> Result<(UnitReader, FxHashMap<UnitKey, UnitInfo>), StoreError> {
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        let (units, _) = scan(&file).map_err(StoreError::io("read", path))?;
        Ok((
            UnitReader {
                file: Some(Arc::new(file)),
            },
            units,
        ))
    }

    pub(crate) fn reader(&self) -> UnitReader {
        self.reader.clone()
    }

    pub(crate) fn get(&self, key: UnitKey) -> Option<&UnitInfo> {
        self.units.get(&key)
    }

    pub(crate) fn units(&self) -> &FxHashMap<UnitKey, UnitInfo> {
        &self.units
    }

    /// Adds a unit. It can be read after the next [`flush`](Self::flush).
    pub(crate) fn append(&mut self, key: UnitKey, unit: &Unit) -> Result<(), StoreError> {
        let record = encode(key, unit).map_err(|error| StoreError::damaged(&self.path, &error))?;
        self.file
            .write_all(&record)
            .map_err(StoreError::io("write", &self.path))?;
        let location = Location {
            offset: self.end,
            len: record.len() as u32,
        };
        self.end += record.len() as u64;
        self.units.insert(key, UnitInfo::new(location, unit));
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.file
            .flush()
            .map_err(StoreError::io("write", &self.path))
    }

    /// Writes a log with only the units that `keep` wants and takes its place.
    pub(crate) fn compact(&mut self, keep: impl Fn(UnitKey) -> bool) -> Result<(), StoreError> {
        self.flush()?;
        let io = |error| StoreError::io("compact", &self.path)(error);
        let temporary = self.path.with_extension("new");
        let mut out = BufWriter::new(File::create(&temporary).map_err(io)?);
        for (&key, info) in self.units.iter().filter(|(key, _)| keep(**key)) {
            if let Ok(record) = self.reader.record(key, info.location) {
                out.write_all(&record).map_err(io)?;
            }
        }
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        std::fs::rename(&temporary, &self.path).map_err(io)?;
        (*self, _) = Self::open(&self.path.clone())?;
        Ok(())
    }
}

impl UnitReader {
    /// Reads one unit with its identifiers.
    ///
    /// # Errors
    /// `InvalidData` when the record is not the one that was written there.
    pub(crate) fn unit(&self, key: UnitKey, location: Location) -> io::Result<Unit> {
        let record = self.record(key, location)?;
        decode(&record[HEADER..]).ok_or_else(damaged)
    }

    fn record(&self, key: UnitKey, location: Location) -> io::Result<Vec<u8>> {
        let mut record = vec![0; location.len as usize];
        let file = self.file.as_ref().ok_or_else(damaged)?;
        read_exact_at(file, &mut record, location.offset)?;
        if record.len() < HEADER || read_u64(&record[8..]) != key.0 {
            return Err(damaged());
        }
        Ok(record)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "damaged unit")
}

fn encode(key: UnitKey, unit: &Unit) -> Result<Vec<u8>, postcard::Error> {
    let mut record = vec![0; HEADER + 4];
    record = postcard::to_extend(unit, record)?;
    let unit_len = (record.len() - HEADER - 4) as u32;
    for identifier in &unit.identifiers {
        record.extend_from_slice(&identifier.hash.to_le_bytes());
        record.push(identifier.count);
        record.push(match identifier.style {
            NameStyle::Plain => 0,
            NameStyle::Descriptive => 1,
            NameStyle::Private => 2,
        });
    }
    let len = record.len() as u32;
    record[..4].copy_from_slice(&len.to_le_bytes());
    record[8..16].copy_from_slice(&key.0.to_le_bytes());
    record[16..20].copy_from_slice(&unit_len.to_le_bytes());
    let check = checksum(&record[8..]);
    record[4..8].copy_from_slice(&check.to_le_bytes());
    Ok(record)
}

fn decode(payload: &[u8]) -> Option<Unit> {
    let (unit, identifiers) = split(payload)?;
    let mut unit: Unit = postcard::from_bytes(unit).ok()?;
    unit.identifiers = identifiers.chunks_exact(6).map(identifier).collect();
    Some(unit)
}

fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = read_u32(payload.get(..4)?) as usize;
    payload[4..].split_at_checked(len)
}

fn identifier(bytes: &[u8]) -> Identifier {
    let style = match bytes[5] {
        1 => NameStyle::Descriptive,
        2 => NameStyle::Private,
        _ => NameStyle::Plain,
    };
    Identifier {
        hash: read_u32(bytes),
        count: bytes[4],
        style,
    }
}

/// Reads the whole log; returns its units and where the last good record ends.
fn scan(file: &File) -> io::Result<(FxHashMap<UnitKey, UnitInfo>, u64)> {
    let mut units = FxHashMap::default();
    let mut end = 0;
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let mut record = Vec::new();
    loop {
        let mut len = [0; 4];
        if input.read_exact(&mut len).is_err() {
            break;
        }
        let n_bytes = u32::from_le_bytes(len);
        if !(HEADER as u32 + 4..=MAX_RECORD).contains(&n_bytes) {
            break;
        }
        record.resize(n_bytes as usize, 0);
        record[..4].copy_from_slice(&len);
        if input.read_exact(&mut record[4..]).is_err()
            || checksum(&record[8..]) != read_u32(&record[4..])
        {
            break;
        }
        let Some(unit) = decode(&record[HEADER..]) else {
            break;
        };
        let location = Location {
            offset: end,
            len: n_bytes,
        };
        let key = UnitKey(read_u64(&record[8..]));
        units.insert(key, UnitInfo::new(location, &unit));
        end += u64::from(n_bytes);
    }
    Ok((units, end))
}

/// Returns the hashes of the names that can be referred to from elsewhere.
pub(crate) fn defined_names(unit: &Unit) -> Arc<[u32]> {
    use crate::syntax::DefinitionKind as Kind;
    let mut names: Vec<u32> = unit
        .definitions
        .iter()
        .filter(|definition| !matches!(definition.kind, Kind::Section | Kind::Implementation))
        .map(|definition| name_hash(definition.name.as_bytes()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}

fn checksum(bytes: &[u8]) -> u32 {
    read_u32(blake3::hash(bytes).as_bytes())
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads at a position without moving the file's own.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}
