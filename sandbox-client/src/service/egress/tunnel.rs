//! A tunnel: TLS between a program inside and the host it named, and nothing else.
//!
//! The beginning of TLS is read and checked before a byte of it leaves; then bytes are passed on
//! both ways. A host can hide behind another's name only where it encrypts even the name it asks
//! for, or shares servers with it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use super::policy::Target;
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
pub(super) async fn carry(shared: &Shared, tunnel: Tunnel) {
    let Tunnel {
        inside,
        mut upstream,
        target,
    } = tunnel;
    let deny = |reason| shared.deny(DenialOp::Connect, &target.to_string(), reason, None);
    let Ok(inside) = inside.await else {
        return;
    };
    let mut inside = TokioIo::new(inside);
    let hello = tokio::time::timeout(shared.options.caps.beginning, hello(&mut inside)).await;
    let (hello, name) = match hello {
        Ok(Ok(Some(hello))) => hello,
        // Closed without a word, which harms nobody.
        Ok(Ok(None)) => return,
        Ok(Err(_)) => return deny(DenialReason::NotTls),
        Err(_) => return deny(DenialReason::TooSlow),
    };
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    if name.as_deref() != target.name() {
        return deny(DenialReason::ServerName);
    }
    let Ok(address) = upstream.peer_addr() else {
        return;
    };
    if !shared.count(hello.len()) {
        return deny(DenialReason::TooManyBytes);
    }
    if upstream.write_all(&hello).await.is_err() {
        return;
    }
    let (from_inside, to_inside) = tokio::io::split(inside);
    let (from_outside, to_outside) = upstream.split();
    let n_passed = AtomicU64::new(0);
    let passed = async {
        tokio::try_join!(
            pass(shared, &n_passed, from_inside, to_outside),
            pass(shared, &n_passed, from_outside, to_inside)
        )
    };
    tokio::select! {
        ended = passed => if let Err(Stop::TooMany) = ended { deny(DenialReason::TooManyBytes) },
        () = shared.forbidden(&target, address.ip()) => deny(DenialReason::Revoked),
        () = stands_still(&n_passed, shared.options.caps.idle) => {}
    }
}

/// Waits until nothing was passed on for a while.
async fn stands_still(n_passed: &AtomicU64, patience: Duration) {
    let mut before = None;
    loop {
        let now = n_passed.load(Ordering::Relaxed);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(patience).await;
    }
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
    TooMany,
    Ended,
}

/// Passes bytes on to the end of the stream, and tells the other side of that end.
async fn pass(
    shared: &Shared,
    n_passed: &AtomicU64,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = from.read(&mut chunk).await.map_err(|_| Stop::Ended)?;
        if n == 0 {
            return to.shutdown().await.map_err(|_| Stop::Ended);
        }
        if !shared.count(n) {
            return Err(Stop::TooMany);
        }
        n_passed.fetch_add(n as u64, Ordering::Relaxed);
        to.write_all(&chunk[..n]).await.map_err(|_| Stop::Ended)?;
    }
}
