//! A tunnel: TLS between a program inside and the host it named, and nothing else.
//!
//! The beginning of TLS is read and checked before a byte of it leaves; then bytes are passed on
//! both ways. A host can hide behind another's name only where it encrypts even the name it asks
//! for, or shares servers with it.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::policy::Target;
use super::proxy::Connection;
use crate::protocol::{DenialOp, DenialReason};

/// The beginning of TLS, before an answer. Post-quantum keys make it 2 KiB.
const HELLO_BYTES: usize = 32 << 10;
const CHUNK: usize = 32 << 10;

/// What `CONNECT` was answered with.
pub(super) struct Tunnel {
    pub(super) inside: OnUpgrade,
    pub(super) upstream: TcpStream,
    pub(super) target: Target,
}

/// Carries a tunnel to its end.
pub(super) async fn carry(connection: &Connection, tunnel: Tunnel) {
    let Tunnel {
        inside,
        upstream,
        target,
    } = tunnel;
    let shared = &connection.shared;
    let Ok(address) = upstream.peer_addr() else {
        return;
    };
    let reason = tokio::select! {
        ended = converse(connection, inside, upstream, &target) => match ended {
            Err(Stop::Denied(reason)) => Some(reason),
            Ok(()) | Err(Stop::Ended) => None,
        },
        () = shared.forbidden(&target, address.ip()) => Some(DenialReason::Revoked),
        () = connection.stands_still(shared.options.caps.idle) => None,
    };
    if let Some(reason) = reason {
        shared.deny(DenialOp::Connect, &target.to_string(), reason, None);
    }
}

/// Checks the beginning of TLS, and passes bytes on after it.
async fn converse(
    connection: &Connection,
    inside: OnUpgrade,
    mut upstream: TcpStream,
    target: &Target,
) -> Result<(), Stop> {
    let mut inside = TokioIo::new(inside.await.map_err(|_| Stop::Ended)?);
    let patience = connection.shared.options.caps.beginning;
    let hello = tokio::time::timeout(patience, hello(&mut inside)).await;
    let hello = hello.map_err(|_| Stop::Denied(DenialReason::TooSlow))?;
    let hello = hello.map_err(|_| Stop::Denied(DenialReason::NotTls))?;
    // Closed without a word, which harms nobody.
    let (hello, name) = hello.ok_or(Stop::Ended)?;
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    if name.as_deref() != target.name() {
        return Err(Stop::Denied(DenialReason::ServerName));
    }
    count(connection, hello.len())?;
    let sent = upstream.write_all(&hello).await;
    sent.map_err(|_| Stop::Ended)?;
    let (from_inside, to_inside) = tokio::io::split(inside);
    let (from_outside, to_outside) = upstream.split();
    tokio::try_join!(
        pass(connection, from_inside, to_outside),
        pass(connection, from_outside, to_inside)
    )
    .map(drop)
}

/// Reads the beginning of TLS: its bytes, what came after them, and the server name in it. `None`
/// when there is nothing.
async fn hello(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(Vec<u8>, Option<String>)>> {
    let mut acceptor = Acceptor::default();
    let mut held = Vec::new();
    let mut chunk = [0; 4 << 10];
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 && held.is_empty() {
            return Ok(None);
        }
        if n == 0 || held.len() + n > HELLO_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        held.extend_from_slice(&chunk[..n]);
        let mut left = &chunk[..n];
        while !left.is_empty() {
            acceptor.read_tls(&mut left)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(Some((held, name)));
                }
                Ok(None) => {}
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Why bytes are no longer passed on.
enum Stop {
    Denied(DenialReason),
    Ended,
}

fn count(connection: &Connection, n: usize) -> Result<(), Stop> {
    match connection.count(n) {
        true => Ok(()),
        false => Err(Stop::Denied(DenialReason::TooManyBytes)),
    }
}

/// Passes bytes on to the end of the stream, and tells the other side of that end.
async fn pass(
    connection: &Connection,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = from.read(&mut chunk).await.map_err(|_| Stop::Ended)?;
        if n == 0 {
            return to.shutdown().await.map_err(|_| Stop::Ended);
        }
        count(connection, n)?;
        to.write_all(&chunk[..n]).await.map_err(|_| Stop::Ended)?;
    }
}
