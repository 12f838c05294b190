//! What each content says: an append-only file of records that check themselves.
//!
//! A record is a head, a list of numbers and the unit (postcard), little endian:
//!
//! ```text
//! length u32 · checksum u32 · key u64 · lines u32 · definitions u32
//! · how many u32, three times: names it defines, words of its imports, names it uses
//! · names u32… · words u32… · uses (name u32, count u8, style u8)… · unit
//! ```
//! What opening and the graph need stands before the unit, so that neither has to decode it.
//! Opening reads the file from its start and cuts it at the first record that does not check:
//! what follows a torn write is lost, nothing else.
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
    graph::Imports,
    path::name_hash,
    syntax::{Identifier, NameStyle, Unit},
};

/// Length, checksum, key and five counts.
const HEADER: usize = 36;
const USE_BYTES: usize = 6;
/// A longer record is damage: the largest file read is far smaller.
const MAX_RECORD: u32 = 64 << 20;

/// Where a unit's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    offset: u64,
    len: u32,
    /// Where in the record the unit starts.
    unit_at: u32,
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

/// What a file uses of others: all that the graph asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// In rising order of their hashes.
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) imports: Imports,
}

impl Uses {
    pub(crate) fn of(unit: &Unit) -> Self {
        Self {
            identifiers: unit.identifiers.clone(),
            imports: Imports::new(&unit.imports),
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
        let info = info(&record, self.end)
            .ok_or_else(|| StoreError::damaged(&self.path, "a record that was just made"))?;
        self.file
            .write_all(&record)
            .map_err(StoreError::io("write", &self.path))?;
        self.end += record.len() as u64;
        self.units.insert(key, info);
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
        let (numbers, unit) = record
            .split_at_checked(location.unit_at as usize)
            .ok_or_else(damaged)?;
        let mut unit: Unit = postcard::from_bytes(unit).map_err(|_| damaged())?;
        unit.identifiers = Numbers::of(numbers).ok_or_else(damaged)?.identifiers();
        Ok(unit)
    }

    /// Reads what a unit uses, without the unit: 3–10 µs.
    ///
    /// # Errors
    /// As [`unit`](Self::unit).
    pub(crate) fn uses(&self, key: UnitKey, location: Location) -> io::Result<Uses> {
        let record = self.start(key, location, location.unit_at)?;
        let numbers = Numbers::of(&record).ok_or_else(damaged)?;
        Ok(Uses {
            identifiers: numbers.identifiers(),
            imports: numbers.imports(),
        })
    }

    fn record(&self, key: UnitKey, location: Location) -> io::Result<Vec<u8>> {
        self.start(key, location, location.len)
    }

    fn start(&self, key: UnitKey, location: Location, len: u32) -> io::Result<Vec<u8>> {
        let mut record = vec![0; len as usize];
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
    let names = defined_names(unit);
    let imports = Imports::new(&unit.imports);
    let counts = [
        unit.n_lines,
        unit.definitions.len() as u32,
        names.len() as u32,
        imports.words().len() as u32,
        unit.identifiers.len() as u32,
    ];
    let mut record = vec![0; 16];
    let lists = [&names, imports.words()];
    for number in counts.iter().chain(lists.into_iter().flatten()) {
        record.extend_from_slice(&number.to_le_bytes());
    }
    for identifier in &unit.identifiers {
        record.extend_from_slice(&identifier.hash.to_le_bytes());
        record.push(identifier.count);
        record.push(match identifier.style {
            NameStyle::Plain => 0,
            NameStyle::Descriptive => 1,
            NameStyle::Private => 2,
        });
    }
    record = postcard::to_extend(unit, record)?;
    let len = record.len() as u32;
    record[..4].copy_from_slice(&len.to_le_bytes());
    record[8..16].copy_from_slice(&key.0.to_le_bytes());
    let check = checksum(&record[8..]);
    record[4..8].copy_from_slice(&check.to_le_bytes());
    Ok(record)
}

/// The numbers of a record, still as bytes.
struct Numbers<'r> {
    counts: [u32; 5],
    names: &'r [u8],
    imports: &'r [u8],
    uses: &'r [u8],
}

impl<'r> Numbers<'r> {
    /// Finds them in a record or its start; `None` when it is too short for what it announces.
    fn of(record: &'r [u8]) -> Option<Self> {
        let (head, rest) = record.split_at_checked(HEADER)?;
        let mut counts = [0; 5];
        for (count, bytes) in counts.iter_mut().zip(head[16..].chunks_exact(4)) {
            *count = read_u32(bytes);
        }
        let (names, rest) = rest.split_at_checked(4 * counts[2] as usize)?;
        let (imports, rest) = rest.split_at_checked(4 * counts[3] as usize)?;
        let (uses, _) = rest.split_at_checked(USE_BYTES * counts[4] as usize)?;
        Some(Self {
            counts,
            names,
            imports,
            uses,
        })
    }

    fn names(&self) -> Arc<[u32]> {
        self.names.chunks_exact(4).map(read_u32).collect()
    }

    fn imports(&self) -> Imports {
        Imports::from_words(self.imports.chunks_exact(4).map(read_u32).collect())
    }

    fn identifiers(&self) -> Vec<Identifier> {
        self.uses.chunks_exact(USE_BYTES).map(identifier).collect()
    }

    fn len(&self) -> usize {
        HEADER + self.names.len() + self.imports.len() + self.uses.len()
    }
}

/// Returns what is kept in memory of a record that lies at `offset`.
fn info(record: &[u8], offset: u64) -> Option<UnitInfo> {
    let numbers = Numbers::of(record)?;
    let location = Location {
        offset,
        len: record.len() as u32,
        unit_at: numbers.len() as u32,
    };
    Some(UnitInfo {
        location,
        names: numbers.names(),
        n_lines: numbers.counts[0],
        n_definitions: numbers.counts[1],
    })
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
        if !(HEADER as u32..=MAX_RECORD).contains(&n_bytes) {
            break;
        }
        record.resize(n_bytes as usize, 0);
        record[..4].copy_from_slice(&len);
        if input.read_exact(&mut record[4..]).is_err()
            || checksum(&record[8..]) != read_u32(&record[4..])
        {
            break;
        }
        let Some(info) = info(&record, end) else {
            break;
        };
        units.insert(UnitKey(read_u64(&record[8..])), info);
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
