//! An image as a read-only disk: the Network Block Device protocol on a socket that only the
//! machine's monitor has.
//!
//! Holds: whoever speaks on the socket can read the image and nothing else; a request that is not
//! one ends the connection. Source: `doc/proto.md` of NetworkBlockDevice/nbd.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use super::image::{Image, MOST_BYTES, Reader};

const HELLO: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Fixed newstyle, and no padding after the old way to name an export.
const HANDSHAKE: u16 = 0b11;
/// The export has flags and is read-only.
const EXPORT: u16 = 0b11;

const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 0x8000_0001;

const READ: u16 = 0;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

const INPUT_OUTPUT_ERROR: u32 = 5;
const INVALID: u32 = 22;

/// No request reads more; the client's own limit.
const MOST: usize = 32 << 20;
/// No option is longer.
const OPTION_BYTES: u32 = 4096;

/// What is on a disk. Zeros, until there is something; after that it is no other. All disks have
/// one size, so that a machine need not hear of it when something comes.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents(Arc<OnceLock<Arc<Image>>>);

impl Contents {
    pub(super) fn put(&self, image: Arc<Image>) {
        self.0.get_or_init(|| image);
    }
}

/// Serves until the other end closes.
///
/// # Errors
/// When it says what cannot be, or leaves in the middle.
pub(super) fn serve(contents: &Contents, mut socket: impl Read + Write) -> io::Result<()> {
    if negotiate(&mut socket)? {
        transmit(contents, &mut socket)?;
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read<const N: usize>(socket: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Agrees on the one export. Returns whether requests follow.
fn negotiate(socket: &mut (impl Read + Write)) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend(HELLO.to_be_bytes());
    hello.extend(OPTION.to_be_bytes());
    hello.extend(HANDSHAKE.to_be_bytes());
    socket.write_all(&hello)?;
    read::<4>(socket)?;
    loop {
        if u64::from_be_bytes(read(socket)?) != OPTION {
            return Err(wrong("no option"));
        }
        let option = u32::from_be_bytes(read(socket)?);
        let length = u32::from_be_bytes(read(socket)?);
        if length > OPTION_BYTES {
            return Err(wrong("an option that is too long"));
        }
        let mut data = vec![0; length as usize];
        socket.read_exact(&mut data)?;
        let reply = |kind: u32, data: &[u8]| {
            let mut reply = Vec::with_capacity(20 + data.len());
            reply.extend(OPTION_REPLY.to_be_bytes());
            reply.extend(option.to_be_bytes());
            reply.extend(kind.to_be_bytes());
            reply.extend((data.len() as u32).to_be_bytes());
            reply.extend(data);
            reply
        };
        match option {
            OPTION_GO | OPTION_INFO => {
                let mut about = vec![0, 0];
                about.extend(MOST_BYTES.to_be_bytes());
                about.extend(EXPORT.to_be_bytes());
                socket.write_all(&reply(INFORMATION, &about))?;
                socket.write_all(&reply(ACKNOWLEDGED, &[]))?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                socket.write_all(&reply(ACKNOWLEDGED, &[]))?;
                return Ok(false);
            }
            _ => socket.write_all(&reply(UNSUPPORTED, &[]))?,
        }
    }
}

fn transmit(contents: &Contents, socket: &mut (impl Read + Write)) -> io::Result<()> {
    const HEAD: usize = 16;
    let mut reader: Option<Reader> = None;
    let mut answer = Vec::new();
    loop {
        let request: [u8; 28] = match read(socket) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        let (magic, rest) = request.split_at(4);
        if magic != REQUEST.to_be_bytes() {
            return Err(wrong("no request"));
        }
        let kind = u16::from_be_bytes([rest[2], rest[3]]);
        let cookie = &rest[4..12];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let (offset, length) = (number(&rest[12..20]), number(&rest[20..24]) as usize);
        answer.clear();
        answer.extend(REPLY.to_be_bytes());
        answer.extend(0u32.to_be_bytes());
        answer.extend(cookie);
        let error = match kind {
            READ if length <= MOST => {
                answer.resize(HEAD + length, 0);
                if reader.is_none() {
                    reader = contents.0.get().map(|image| Reader::new(Arc::clone(image)));
                }
                match reader.as_mut().map(|r| r.read(offset, &mut answer[HEAD..])) {
                    None | Some(Ok(())) => 0,
                    Some(Err(_)) => INPUT_OUTPUT_ERROR,
                }
            }
            FLUSH => 0,
            DISCONNECT => return Ok(()),
            READ => INVALID,
            // What it would write follows; nothing after it could be understood.
            _ => return Err(wrong("a request to write")),
        };
        if error != 0 {
            answer.truncate(HEAD);
            answer[4..8].copy_from_slice(&error.to_be_bytes());
        }
        socket.write_all(&answer)?;
    }
}
