//! The base protocol of LSP: `Content-Length` frames in, `Content-Length` frames out.
//!
//! Holds: a frame that cannot be understood never ends the stream; it becomes a [`Fault`] that
//! names the cause, and reading goes on with the next frame. One frame is bounded by
//! [`MAX_BODY`]; a longer one is skipped, not stored.
//! Not here: what a message means (`dispatch`).
//!
//! Why not the reader of tower-lsp-server: its stream ends after the first malformed frame
//! (`FramedRead` yields `None` after a decoder error), and serde_json refuses lone surrogates,
//! which editors send when half of an emoji is deleted.

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;
use tower_lsp_server::jsonrpc::{Error, ErrorCode, Id, Request, Response};

/// Longest accepted body, in bytes. A 50 MB document with every byte escaped still fits.
const MAX_BODY: usize = 384 << 20;
/// Longest accepted header line, in bytes.
const MAX_HEADER: u64 = 8 << 10;

/// One frame from the client.
#[derive(Debug)]
pub enum Frame {
    /// A request or a notification.
    Request(Request),
    /// The answer to a request of ours.
    Response(Response),
    /// A frame that is not a JSON-RPC message; `Response` tells the client why.
    Fault(Response),
}

/// Reads the next frame; `None` at the end of the stream.
///
/// # Errors
/// Only when the underlying stream fails; bad content is a [`Frame::Fault`].
pub fn read_frame(input: &mut impl BufRead) -> io::Result<Option<Frame>> {
    let length = match read_header(input)? {
        Header::End => return Ok(None),
        Header::Length(length) => length,
        Header::Bad(why) => return Ok(Some(fault(ErrorCode::ParseError, why))),
    };
    if length > MAX_BODY {
        io::copy(&mut input.take(length as u64), &mut io::sink())?;
        let why = format!("a message of {length} bytes is over the limit of {MAX_BODY}");
        return Ok(Some(fault(ErrorCode::InvalidRequest, why)));
    }
    // Grow with what really arrives: a length is only a claim.
    let mut body = Vec::with_capacity(length.min(1 << 20));
    input.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some(parse(&body)))
}

/// Writes one message as a frame and flushes it.
///
/// # Errors
/// When the stream fails, as it does once the client is gone.
pub fn write_frame(output: &mut impl Write, body: &[u8]) -> io::Result<()> {
    write!(output, "Content-Length: {}\r\n\r\n", body.len())?;
    output.write_all(body)?;
    output.flush()
}

enum Header {
    End,
    Length(usize),
    Bad(String),
}

/// Reads header lines up to the blank one. Lines that are no header (a stray print, the rest of a
/// broken frame) are passed over until a `Content-Length` is found.
fn read_header(input: &mut impl BufRead) -> io::Result<Header> {
    let mut length = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.take(MAX_HEADER).read_until(b'\n', &mut line)? == 0 {
            return Ok(Header::End);
        }
        if !line.ends_with(b"\n") && (line.len() as u64) < MAX_HEADER {
            return Ok(Header::End);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            match length.take() {
                Some(length) => return Ok(Header::Length(length)),
                None => continue,
            }
        }
        // Find the name anywhere in the line: after a broken frame it can follow other bytes.
        let Some(at) = find_ignore_case(text, "content-length:") else {
            continue;
        };
        let value = text[at + "content-length:".len()..].trim();
        match value.parse::<usize>() {
            Ok(n) => length = Some(n),
            Err(_) => {
                return Ok(Header::Bad(format!(
                    "Content-Length is not a number: {value:?}"
                )));
            }
        }
    }
}

fn find_ignore_case(text: &str, lower: &str) -> Option<usize> {
    text.as_bytes()
        .windows(lower.len())
        .position(|w| w.eq_ignore_ascii_case(lower.as_bytes()))
}

fn parse(body: &[u8]) -> Frame {
    let value = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value,
        Err(first) => match replace_lone_surrogates(body).map(|b| serde_json::from_slice(&b)) {
            Some(Ok(value)) => value,
            _ => {
                return fault(
                    ErrorCode::ParseError,
                    format!("the message is not JSON: {first}"),
                );
            }
        },
    };
    let Value::Object(object) = &value else {
        return fault(
            ErrorCode::InvalidRequest,
            "a message must be one JSON object".into(),
        );
    };
    let id = object.get("id").cloned();
    let parsed = if object.contains_key("method") {
        serde_json::from_value(value).map(Frame::Request)
    } else {
        serde_json::from_value(value).map(Frame::Response)
    };
    parsed.unwrap_or_else(|why| {
        let id = id
            .and_then(|id| serde_json::from_value(id).ok())
            .unwrap_or(Id::Null);
        let message = format!("not a JSON-RPC 2.0 message: {why}");
        Frame::Fault(Response::from_error(
            id,
            error(ErrorCode::InvalidRequest, message),
        ))
    })
}

/// Replaces `\uD8xx` escapes without their other half by `\uFFFD`, which has the same width in
/// UTF-16 and so keeps positions true. `None` when there is nothing to replace.
fn replace_lone_surrogates(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = body.to_vec();
    let mut changed = false;
    let mut i = 0;
    while i < body.len() {
        if body[i] != b'\\' {
            i += 1;
            continue;
        }
        match unicode_escape(&body[i..]) {
            Some(0xD800..=0xDBFF) => {
                if matches!(unicode_escape(&body[i + 6..]), Some(0xDC00..=0xDFFF)) {
                    i += 12;
                    continue;
                }
                out[i + 2..i + 6].copy_from_slice(b"FFFD");
                changed = true;
                i += 6;
            }
            Some(0xDC00..=0xDFFF) => {
                out[i + 2..i + 6].copy_from_slice(b"FFFD");
                changed = true;
                i += 6;
            }
            Some(_) => i += 6,
            // Another escape: its second byte may be a backslash and must not start one.
            None => i += 2,
        }
    }
    changed.then_some(out)
}

fn unicode_escape(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn fault(code: ErrorCode, message: String) -> Frame {
    Frame::Fault(Response::from_error(Id::Null, error(code, message)))
}

fn error(code: ErrorCode, message: String) -> Error {
    Error {
        code,
        message: message.into(),
        data: None,
    }
}

#[cfg(test)]
mod tests;
