//! From a host that may be reached to a connection to one address of it that was checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::policy::Target;
use super::{Names, Shared, address};
use crate::protocol::DenialReason;

const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    Denied(DenialReason),
    /// It may be reached, but cannot.
    Failed(String),
}

/// Connects to `target`, if the policy allows it and one of its addresses.
pub(super) async fn dial(shared: &Shared, target: &Target) -> Result<TcpStream, NoConnection> {
    shared.judge(target).map_err(NoConnection::Denied)?;
    let addresses = resolve(shared, target)
        .await
        .map_err(|why| NoConnection::Failed(format!("the name was not found: {why}")))?;
    let mut outcome = NoConnection::Failed("the name has no address".to_owned());
    for ip in addresses.into_iter().take(ADDRESSES) {
        let address = SocketAddr::new(ip, target.port());
        let is_exempt = shared.options.local.contains(&address);
        if !is_exempt && address::refusal(ip).is_some() {
            outcome = NoConnection::Denied(DenialReason::NotGlobal);
            continue;
        }
        if !shared.policy().allows(target, ip) {
            outcome = NoConnection::Denied(DenialReason::NotAllowed);
            continue;
        }
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            // A global address can be this machine's own.
            Ok(Ok(stream)) if !is_exempt && is_own(&stream) => {
                outcome = NoConnection::Denied(DenialReason::NotGlobal);
            }
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(why)) => outcome = NoConnection::Failed(why.to_string()),
            Err(_) => outcome = NoConnection::Failed("it did not answer".to_owned()),
        }
    }
    Err(outcome)
}

async fn resolve(shared: &Shared, target: &Target) -> io::Result<Vec<IpAddr>> {
    let Some(name) = target.name() else {
        return Ok(target.literal().into_iter().collect());
    };
    match &shared.options.names {
        Names::Given(look_up) => look_up(name),
        Names::System => {
            let found = tokio::net::lookup_host((name, target.port()));
            let found = tokio::time::timeout(RESOLVE, found).await;
            let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(found.map(|address| address.ip()).collect())
        }
    }
}

fn is_own(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(own), Ok(peer)) => own.ip() == peer.ip(),
        (Err(_), _) | (_, Err(_)) => true,
    }
}
