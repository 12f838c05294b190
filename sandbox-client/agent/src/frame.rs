//! Frames of Connect streams: one byte of flags, a big-endian `u32` length, JSON.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

/// The last frame of a stream.
const END: u8 = 2;
const COMPRESSED: u8 = 1;
const HEADER: usize = 5;

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Message(Bytes),
    End(Bytes),
}

/// Why bytes are no Connect stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is longer than is taken")]
    TooLong(usize),
    #[error("a frame is compressed, which was not offered")]
    Compressed,
    #[error("the stream goes on after its end")]
    AfterEnd,
    #[error("the stream ended in the middle")]
    Partial,
}

/// Encodes `message`.
pub fn message(message: &impl Serialize) -> Bytes {
    encode(0, message)
}

/// Encodes the last frame.
pub fn end(end: &impl Serialize) -> Bytes {
    encode(END, end)
}

fn encode(flags: u8, message: &impl Serialize) -> Bytes {
    let body = serde_json::to_vec(message).unwrap_or_default();
    let mut frame = BytesMut::with_capacity(HEADER + body.len());
    frame.put_u8(flags);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(&body);
    frame.freeze()
}

/// Takes a stream apart, however it was cut. Holds at most one frame.
#[derive(Debug)]
pub struct Decoder {
    held: BytesMut,
    cap: usize,
    ended: bool,
}

impl Decoder {
    /// Refuses frames longer than `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self {
            held: BytesMut::new(),
            cap,
            ended: false,
        }
    }

    /// Adds bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Returns the next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes cannot be a stream; nothing can be read after that.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.ended {
            return match self.held.is_empty() {
                true => Ok(None),
                false => Err(FrameError::AfterEnd),
            };
        }
        let Some(header) = self.held.get(..HEADER) else {
            return Ok(None);
        };
        let flags = header[0];
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > self.cap {
            return Err(FrameError::TooLong(length));
        }
        if flags & COMPRESSED != 0 {
            return Err(FrameError::Compressed);
        }
        if self.held.len() < HEADER + length {
            return Ok(None);
        }
        self.held.advance(HEADER);
        let body = self.held.split_to(length).freeze();
        if flags & END == 0 {
            return Ok(Some(Frame::Message(body)));
        }
        self.ended = true;
        Ok(Some(Frame::End(body)))
    }

    /// Checks that the stream was whole when its bytes ended.
    ///
    /// # Errors
    /// [`FrameError::Partial`] without a last frame: the connection was cut.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.ended {
            true => Ok(()),
            false => Err(FrameError::Partial),
        }
    }
}
