//! What a sandbox can reach, and what happens when it may not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox_client::client::{Event, Sandbox};
use sandbox_client::protocol::{HostRule, LocalCreate, Network, Transform};
use sandbox_client::service::{Caps, EgressOptions, Names, Options};
use sandbox_client::tier::Tier;

use crate::peer::Peers;
use crate::world::{World, asking, options, run, shell, told};

const ASK: &str = include_str!("../../tests/cases/redteam/ask.py");
const PATIENCE: Duration = Duration::from_secs(20);

/// Sandboxes beside servers that are let through although they are on this machine.
pub(crate) struct Outside {
    pub(crate) world: World,
    pub(crate) peers: Peers,
    /// Names that were looked up.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    pub(crate) async fn with(caps: Caps) -> Self {
        Self::beside(options(), caps).await
    }

    pub(crate) async fn beside(mut options: Options, caps: Caps) -> Self {
        let peers = Peers::start().await;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        options.egress = EgressOptions {
            names: names(Arc::clone(&asked)),
            local: BTreeSet::from([peers.tls, peers.plain]),
            tls: Some(Arc::clone(&peers.trust)),
            caps,
        };
        let world = World::with(options);
        world.write("ask.py", ASK);
        Self {
            world,
            peers,
            asked,
        }
    }

    async fn start() -> Self {
        Self::with(Caps::default()).await
    }

    /// A sandbox that may reach these, where `TLS_PORT` and `PLAIN_PORT` stand for the servers' ports.
    pub(crate) async fn sandbox(&self, allowed: &[&str]) -> Sandbox {
        self.sandbox_of(Tier::Namespace, allowed).await
    }

    pub(crate) async fn sandbox_of(&self, tier: Tier, allowed: &[&str]) -> Sandbox {
        let allow_out = allowed.iter().map(|rule| self.ports(rule)).collect();
        let network = Network {
            allow_out,
            ..Network::none()
        };
        self.sandbox_with(tier, network).await
    }

    async fn sandbox_with(&self, tier: Tier, network: Network) -> Sandbox {
        let mut create = asking(LocalCreate {
            workspace: Some(self.world.root()),
            tier: Some(tier),
            ..LocalCreate::default()
        });
        create.network = Some(network);
        self.world.client.create(create).await.unwrap()
    }

    pub(crate) fn ports(&self, text: &str) -> String {
        text.replace("TLS_PORT", &self.peers.tls.port().to_string())
            .replace("PLAIN_PORT", &self.peers.plain.port().to_string())
    }

    /// Runs `ask.py` inside and returns what it says.
    async fn ask(&self, sandbox: &Sandbox, arguments: &str) -> String {
        let arguments = self.ports(arguments);
        told(&run(sandbox, &format!("python3 ask.py {arguments}")).await)
    }
}

/// Looks names up in a table; `turning.test` is at another place each time.
fn names(asked: Arc<Mutex<Vec<String>>>) -> Names {
    let n_turns = AtomicUsize::new(0);
    Names::Given(Arc::new(move |name: &str| {
        asked.lock().unwrap().push(name.to_owned());
        let found: &[&str] = match name {
            "allowed.test" | "other.test" | "a.wide.test" => &["127.0.0.1"],
            "private.test" => &["10.0.0.1", "192.168.1.1"],
            "metadata.test" => &["169.254.169.254"],
            "mapped.test" => &["::ffff:127.0.0.1"],
            "nat64.test" => &["64:ff9b::7f00:1"],
            "mixed.test" => &["10.0.0.1", "127.0.0.1"],
            "turning.test" => match n_turns.fetch_add(1, Ordering::SeqCst) {
                0 => &["127.0.0.1"],
                _ => &["169.254.169.254"],
            },
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
        Ok(found.iter().map(parse).collect())
    }))
}

/// The denials after `seq`, as lines.
pub(crate) async fn denials(sandbox: &Sandbox, seq: u64) -> Vec<String> {
    let denials = sandbox.denials(seq, Duration::ZERO).await.unwrap();
    let line = |d: &sandbox_client::protocol::Denial| format!("{} {}", d.reason.name(), d.target);
    denials.iter().map(line).collect()
}

#[tokio::test]
async fn a_host_that_is_allowed_is_reached_over_tls_and_plainly() {
    let outside = Outside::start().await;
    let rules = ["allowed.test:TLS_PORT", "*.wide.test:PLAIN_PORT"];
    let sandbox = outside.sandbox(&rules).await;
    let tls = outside.ask(&sandbox, "connect allowed.test:TLS_PORT").await;
    assert!(tls.contains("reached with"), "{tls}");
    let plain = outside
        .ask(&sandbox, "get http://a.wide.test:PLAIN_PORT/x")
        .await;
    assert!(plain.contains("reached with\nGET /x HTTP/1.1"), "{plain}");
    assert_eq!(denials(&sandbox, 0).await, [""; 0]);
    assert!(
        sandbox.label().contains("network: allowed.test:"),
        "{}",
        sandbox.label()
    );
}

#[tokio::test]
async fn what_nothing_allows_is_not_even_looked_up_and_is_told_with_what_would_allow_it() {
    let outside = Outside::start().await;
    let sandbox = outside.sandbox(&[]).await;
    let said = outside.ask(&sandbox, "connect secret.evil.test:443").await;
    assert!(said.contains("HTTP/1.1 403"), "{said}");
    assert!(said.contains("x-sandbox-deny: not-allowed"), "{said}");
    assert!(
        said.contains("The network rule secret.evil.test would allow it."),
        "{said}"
    );
    let denials = sandbox.denials(0, PATIENCE).await.unwrap();
    let [denial] = denials.as_slice() else {
        panic!("{denials:?}");
    };
    assert_eq!(denial.target, "secret.evil.test:443");
    assert_eq!(denial.allowed_by.as_deref(), Some("secret.evil.test"));
    assert_eq!(*outside.asked.lock().unwrap(), [""; 0]);
    assert!(
        sandbox.label().contains("no network"),
        "{}",
        sandbox.label()
    );
}

#[tokio::test]
async fn permissions_hold_at_once_when_given_and_when_taken_back() {
    let outside = Outside::start().await;
    let sandbox = outside.sandbox(&[]).await;
    let ask = "get http://allowed.test:PLAIN_PORT/";
    let before = outside.ask(&sandbox, ask).await;
    assert!(before.contains("x-sandbox-deny: not-allowed"), "{before}");
    let rule = outside.ports("allowed.test:PLAIN_PORT");
    sandbox.set_network(vec![rule]).await.unwrap();
    let allowed = outside.ask(&sandbox, ask).await;
    assert!(allowed.contains("reached with"), "{allowed}");
    // A connection that is open when the permission goes.
    let script = outside.ports(
        "python3 -u -c \"
import http.client as h
c = h.HTTPConnection('127.0.0.1', 3128)
c.set_tunnel('allowed.test', TLS_PORT)
import ssl
c.connect()
s = ssl._create_unverified_context().wrap_socket(c.sock, server_hostname='allowed.test')
import os
os.write(1, b'open\\n')
print(s.recv(1))\"",
    );
    let rule = outside.ports("allowed.test:TLS_PORT");
    sandbox.set_network(vec![rule]).await.unwrap();
    let mut running = sandbox.start(shell(&script)).await.unwrap();
    assert_eq!(
        running.next().await.unwrap(),
        Event::Stdout("open\n".into())
    );
    sandbox.set_network(Vec::new()).await.unwrap();
    let rest = tokio::time::timeout(PATIENCE, running.next()).await;
    assert!(matches!(
        rest.unwrap().unwrap(),
        Event::Stdout(_) | Event::Stderr(_)
    ));
    let denied = denials(&sandbox, 1).await;
    assert_eq!(denied, [outside.ports("revoked allowed.test:TLS_PORT")]);
    // And nothing opens it again, though the service has just been there.
    let n_connections = outside.peers.n_connections.load(Ordering::SeqCst);
    let asks = "connect allowed.test:TLS_PORT and get http://allowed.test:PLAIN_PORT/";
    let refused = outside.ask(&sandbox, asks).await;
    let n_refused = refused.matches("x-sandbox-deny: not-allowed").count();
    assert_eq!(n_refused, 2, "{refused}");
    let expected = [
        "not-allowed allowed.test:TLS_PORT",
        "not-allowed allowed.test:PLAIN_PORT",
    ];
    let expected = expected.map(|line| outside.ports(line));
    assert_eq!(denials(&sandbox, 2).await, expected);
    let now = outside.peers.n_connections.load(Ordering::SeqCst);
    assert_eq!(now, n_connections, "it was connected to");
}

/// An answer that still comes, and a request that still goes.
#[tokio::test]
async fn a_plain_exchange_ends_when_its_permission_does() {
    let outside = Outside::start().await;
    let rule = "allowed.test:PLAIN_PORT";
    let sandbox = outside.sandbox(&[rule]).await;
    for (ask, said) in [
        ("get http://allowed.test:PLAIN_PORT/stay", "reached with"),
        ("upload http://allowed.test:PLAIN_PORT/listen", "sent some"),
    ] {
        let n_before = sandbox.denials(0, Duration::ZERO).await.unwrap().len() as u64;
        sandbox
            .set_network(vec![outside.ports(rule)])
            .await
            .unwrap();
        let script = format!("python3 -u ask.py {}; echo over", outside.ports(ask));
        let mut running = sandbox.start(shell(&script)).await.unwrap();
        let mut told = String::new();
        while !told.contains(said) {
            match tokio::time::timeout(PATIENCE, running.next()).await {
                Ok(Ok(Event::Stdout(bytes) | Event::Stderr(bytes))) => {
                    told += &String::from_utf8_lossy(&bytes);
                }
                other => panic!("{other:?} after {told}"),
            }
        }
        if ask.starts_with("upload") {
            // What was sent may still be with the proxy, which has not looked at it yet.
            let heard = outside.peers.heard.notified();
            tokio::time::timeout(PATIENCE, heard).await.unwrap();
        }
        sandbox.set_network(Vec::new()).await.unwrap();
        loop {
            match tokio::time::timeout(PATIENCE, running.next()).await {
                Ok(Ok(Event::End(_))) => break,
                Ok(Ok(Event::Stdout(_) | Event::Stderr(_))) => {}
                other => panic!("{ask}: {other:?}"),
            }
        }
        let denied = denials(&sandbox, n_before).await;
        assert_eq!(denied, [outside.ports(&format!("revoked {rule}"))], "{ask}");
    }
}

#[tokio::test]
async fn a_credential_reaches_its_host_over_tls_and_is_not_inside() {
    let outside = Outside::start().await;
    let header = ("Authorization".to_owned(), "Bearer hush".to_owned());
    let transform = Transform {
        headers: BTreeMap::from([header]),
    };
    let network = Network {
        allow_out: vec![outside.ports("allowed.test:TLS_PORT")],
        rules: BTreeMap::from([("allowed.test".to_owned(), vec![HostRule { transform }])]),
        ..Network::none()
    };
    assert!(!format!("{network:?}").contains("hush"));
    let sandbox = outside.sandbox_with(Tier::Namespace, network).await;
    let with_one =
        "get http://allowed.test:TLS_PORT/ 'Host: allowed.test:TLS_PORT' 'Authorization: mine'";
    let said = outside.ask(&sandbox, with_one).await;
    // The server shows what it was sent; the sandbox has it only for that.
    assert!(said.contains("authorization: Bearer hush"), "{said}");
    assert!(!said.contains("mine"), "{said}");
    let inside = told(&run(&sandbox, "env; cat /proc/*/environ /proc/*/cmdline").await);
    assert!(!inside.contains("hush"), "{inside}");
    // TLS from inside cannot be opened, so nothing is added to it.
    let tunnel = outside.ask(&sandbox, "connect allowed.test:TLS_PORT").await;
    assert!(
        tunnel.contains("reached with") && !tunnel.contains("hush"),
        "{tunnel}"
    );
    let elsewhere = outside
        .ask(&sandbox, "get http://other.test:PLAIN_PORT/")
        .await;
    assert!(
        elsewhere.contains("x-sandbox-deny: not-allowed"),
        "{elsewhere}"
    );
}

#[tokio::test]
async fn bytes_are_counted_over_all_connections() {
    let caps = Caps {
        bytes: 12 << 20,
        ..Caps::default()
    };
    let outside = Outside::with(caps).await;
    let sandbox = outside.sandbox(&["allowed.test:PLAIN_PORT"]).await;
    let script = "get http://allowed.test:PLAIN_PORT/much | wc -c";
    let first = outside.ask(&sandbox, script).await;
    let second = outside.ask(&sandbox, script).await;
    let length = |said: &str| {
        said.lines()
            .nth(1)
            .unwrap()
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    assert!(length(&first) > crate::peer::MUCH, "{first}");
    assert!(length(&second) < 5 << 20, "{second}");
    let expected = outside.ports("too-many-bytes allowed.test:PLAIN_PORT");
    assert_eq!(denials(&sandbox, 0).await, [expected]);
}

#[tokio::test]
async fn connections_are_bounded_and_those_that_say_nothing_end() {
    let caps = Caps {
        connections: 8,
        beginning: Duration::from_millis(300),
        ..Caps::default()
    };
    let outside = Outside::with(caps).await;
    let sandbox = outside.sandbox(&["allowed.test:PLAIN_PORT"]).await;
    let said = outside.ask(&sandbox, "hold 9").await;
    assert!(
        said.contains("x-sandbox-deny: too-many-connections"),
        "{said}"
    );
    // The others were ended, so there is room again.
    let mut expected = vec!["too-many-connections "];
    expected.extend(["too-slow "; 8]);
    assert_eq!(denials(&sandbox, 0).await, expected);
    let after = outside
        .ask(&sandbox, "get http://allowed.test:PLAIN_PORT/")
        .await;
    assert!(after.contains("reached with"), "{after}");
}
