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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::io::Cursor;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::service::machine::tree::{Owner, Shown, Tree};

    /// A socket whose other end has said all that it will say.
    struct Wire {
        said: Cursor<Vec<u8>>,
        answers: Vec<u8>,
    }

    impl Read for Wire {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.said.read(to)
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // More than that is never asked for here.
            assert!(
                self.answers.len() < 256 << 20,
                "it says more than it was asked"
            );
            self.answers.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answers(contents: &Contents, said: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut wire = Wire {
            said: Cursor::new(said),
            answers: Vec::new(),
        };
        let served = serve(contents, &mut wire);
        (served, wire.answers)
    }

    fn contents() -> (tempfile::TempDir, Contents, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), vec![b'x'; 10_000]).unwrap();
        let masks = HashSet::new();
        let shown = Shown {
            owner: Owner::User,
            masks: &masks,
        };
        let mut tree = Tree::new();
        tree.add(folder.path(), shown).unwrap();
        let image = Arc::new(Image::of(tree).unwrap());
        let mut whole = vec![0; 64 << 10];
        Reader::new(Arc::clone(&image)).read(0, &mut whole).unwrap();
        let contents = Contents::default();
        contents.put(image);
        (folder, contents, whole)
    }

    fn go() -> Vec<u8> {
        let mut said = vec![0; 4];
        said.extend(OPTION.to_be_bytes());
        said.extend(OPTION_GO.to_be_bytes());
        said.extend(6u32.to_be_bytes());
        said.extend([0; 6]);
        said
    }

    fn request(kind: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
        let mut request = REQUEST.to_be_bytes().to_vec();
        request.extend(0u16.to_be_bytes());
        request.extend(kind.to_be_bytes());
        request.extend(cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request
    }

    /// Bytes of the handshake and of `OPTION_GO`'s answers.
    const GREETING: usize = 18 + 20 + 12 + 20;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        /// Whatever is said, it ends, and the disk's bytes are all that it tells.
        #[test]
        fn whoever_says_anything_is_answered_or_left(
            begins in any::<bool>(),
            said in vec(prop_oneof![
                vec(any::<u8>(), 0..64),
                (any::<u16>(), any::<u64>(), 0u32..70_000)
                    .prop_map(|(kind, offset, length)| request(kind % 9, 7, offset, length)),
                (any::<u32>(), any::<u32>()).prop_map(|(option, length)| {
                    let mut said = OPTION.to_be_bytes().to_vec();
                    said.extend(option.to_be_bytes());
                    said.extend((length % 10_000).to_be_bytes());
                    said
                }),
            ], 0..20),
        ) {
            let (_folder, contents, _) = contents();
            let mut all = if begins { go() } else { Vec::new() };
            all.extend(said.concat());
            let n_requests = all.len() / 28 + 1;
            let (_, told) = answers(&contents, all);
            prop_assert!(told.len() <= GREETING + n_requests * (70_000 + 16) + (4 << 10));
        }

        #[test]
        fn what_is_read_is_what_the_image_has(
            asked in vec((0u64..70_000, 0u32..70_000), 1..10)
        ) {
            let (_folder, contents, whole) = contents();
            let mut said = go();
            for (n, (offset, length)) in asked.iter().enumerate() {
                said.extend(request(READ, n as u64, *offset, *length));
            }
            said.extend(request(DISCONNECT, 0, 0, 0));
            let (served, told) = answers(&contents, said);
            prop_assert!(served.is_ok());
            let mut rest = &told[GREETING..];
            for (n, (offset, length)) in asked.into_iter().enumerate() {
                let (head, behind) = rest.split_at(16);
                prop_assert_eq!(&head[..8], [REPLY.to_be_bytes(), [0; 4]].concat());
                prop_assert_eq!(&head[8..], (n as u64).to_be_bytes());
                let (bytes, behind) = behind.split_at(length as usize);
                let at = |n: usize| whole.get(offset as usize + n).copied().unwrap_or_default();
                prop_assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == at(n)));
                rest = behind;
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn who_asks_for_too_much_or_wants_to_write_gets_nothing() {
        let (_folder, contents, _) = contents();
        let with = |request: Vec<u8>| answers(&contents, [go(), request].concat());
        let (served, told) = with(request(READ, 1, 0, u32::MAX));
        assert!(served.is_ok());
        assert_eq!(told.len(), GREETING + 16);
        assert_eq!(told[GREETING + 4..GREETING + 8], INVALID.to_be_bytes());
        let (served, told) = with(request(1, 1, 0, 512));
        assert!(served.is_err());
        assert_eq!(told.len(), GREETING);
        let mut long = vec![0; 4];
        long.extend(OPTION.to_be_bytes());
        long.extend(OPTION_GO.to_be_bytes());
        long.extend(u32::MAX.to_be_bytes());
        assert!(answers(&contents, long).0.is_err());
    }

    #[test]
    fn a_disk_is_empty_until_something_is_put_on_it_and_keeps_that() {
        let (_first, _, whole) = contents();
        let (_folder, contents, _) = contents();
        let empty = Contents::default();
        let said = [go(), request(READ, 1, 1024, 512)].concat();
        let (_, told) = answers(&empty, said.clone());
        assert_eq!(told[GREETING + 16..], [0; 512]);
        empty.put(Arc::clone(contents.0.get().unwrap()));
        let (_, told) = answers(&empty, said.clone());
        assert_eq!(told[GREETING + 16..][..4], whole[1024..][..4]);
        let other = Tree::new();
        empty.put(Arc::new(Image::of(other).unwrap()));
        assert_eq!(answers(&empty, said).1, told);
    }
}
