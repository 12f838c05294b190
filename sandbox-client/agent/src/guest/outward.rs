//! What goes out of a sandbox with a kernel of its own: connections to the proxy inside, carried to
//! the service over one serial port or socket.
//!
//! Each connection is a stream of HTTP/2, so that a slow one holds up no other and nothing piles up
//! here. Holds: nothing is decided here; a connection is passed on as it is or not at all.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::pass_on;

/// More connections at one time than the service ever takes.
const CONNECTIONS: usize = 512;
/// A connection that cannot be had is no reason to leave all others.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What may be on its way in one stream, and in all.
const STREAM_WINDOW: u32 = 256 << 10;
const WINDOW: u32 = 1 << 20;

/// Carries until the port closes. Does nothing before the first connection: a machine that was just
/// woken has more urgent work.
pub(super) fn carry_by_port(listener: TcpListener, port: File) {
    let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], None);
    // Without it programs inside reach nothing, and the proxy is not there for them.
    if let Ok(channel) = as_socket(port) {
        carry(listener, channel);
    }
}

/// Carries until the socket closes.
pub(crate) fn carry(listener: TcpListener, channel: UnixStream) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let Ok(runtime) = runtime {
        let _ = runtime.block_on(accept(listener, channel));
    }
}

async fn accept(listener: TcpListener, channel: UnixStream) -> io::Result<()> {
    channel.set_nonblocking(true)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let channel = tokio::net::UnixStream::from_std(channel)?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(channel))
        .await
        .map_err(io::Error::other)?;
    let mut connections = JoinSet::new();
    connections.spawn(async {
        let _ = connection.await;
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() < CONNECTIONS {
            connections.spawn(pass(stream, sender.clone()));
        }
    }
}

/// The port as a socket that can be waited for.
fn as_socket(port: File) -> io::Result<UnixStream> {
    let (own, theirs) = UnixStream::pair()?;
    let (from, to, end) = (port.try_clone()?, theirs.try_clone()?, theirs.try_clone()?);
    std::thread::spawn(move || pass_on(from, to, &end));
    let (from, end) = (theirs.try_clone()?, theirs);
    std::thread::spawn(move || pass_on(from, port, &end));
    Ok(own)
}

async fn pass(mut stream: TcpStream, mut sender: SendRequest<Empty<Bytes>>) {
    let Ok(request) = Request::connect("sandbox:1").body(Empty::new()) else {
        return;
    };
    let Ok(answer) = sender.send_request(request).await else {
        return;
    };
    if let Ok(carried) = hyper::upgrade::on(answer).await {
        // How it ends is for the two that speak.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut TokioIo::new(carried)).await;
    }
}
