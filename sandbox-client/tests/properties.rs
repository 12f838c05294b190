//! What holds for any bytes.

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use sandbox_agent::frame::{self, Decoder, Frame, FrameError};
use sandbox_client::output::{Cap, Capped};

/// Reads a stream that comes in these pieces.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<(), FrameError>) {
    let mut decoder = Decoder::new(4096);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.take() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    let finished = decoder.finish();
    (frames, finished)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_stream_is_the_same_however_it_is_cut(
        texts in vec("[a-z]{0,40}", 0..8),
        size in 1usize..50,
    ) {
        let mut bytes = Vec::new();
        for text in &texts {
            bytes.extend_from_slice(&frame::message(text));
        }
        bytes.extend_from_slice(&frame::end(&()));
        let (frames, finished) = read(bytes.chunks(size));
        prop_assert_eq!(finished, Ok(()));
        let mut expected: Vec<Frame> = texts
            .iter()
            .map(|text| Frame::Message(format!("\"{text}\"").into()))
            .collect();
        expected.push(Frame::End("null".into()));
        prop_assert_eq!(frames, expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), size in 1usize..20) {
        let (frames, _) = read(bytes.chunks(size));
        prop_assert!(frames.len() <= bytes.len() / 5);
    }

    #[test]
    fn output_is_kept_the_same_however_it_comes(
        bytes in vec(any::<u8>(), 0..300),
        size in 1usize..70,
        cap in 0usize..100,
    ) {
        let mut whole = Capped::new(Cap(cap));
        whole.push(&bytes);
        let mut pieces = Capped::new(Cap(cap));
        for piece in bytes.chunks(size) {
            pieces.push(piece);
        }
        prop_assert_eq!(&pieces, &whole);
        prop_assert_eq!(whole.total(), bytes.len() as u64);
        prop_assert_eq!(whole.elided(), bytes.len().saturating_sub(2 * cap) as u64);
        if whole.elided() == 0 {
            prop_assert_eq!(whole.text(), String::from_utf8_lossy(&bytes));
        }
    }
}
