//! Hosts that a command reaches: asked for, given, taken back, and what was denied.
//!
//! Holds: a command reaches the hosts its own call named and was allowed, while it runs. A
//! permission that is revoked or over is taken from a command that uses it.

use std::collections::BTreeSet;

use sandbox_client::protocol::Denial as Unreached;

use super::super::approve::Asked;
use super::super::{Driver, End, Flow, off_thread};
use super::{Reported, unread};
use crate::agent::policy::grants_host;
use crate::agent::registries;
use crate::agent::tools::run;
use crate::model::ToolCall;
use crate::store::events::{Denial, EventKind, Permission, Subject};

/// Denials of one command that are told of.
const TOLD: usize = 10;

impl Driver {
    /// The hosts a command may reach, of those it asks for. `Err` when one is refused: then it does
    /// not run.
    pub(super) async fn hosts(
        &mut self,
        call: &ToolCall,
        line: &str,
        asked: Vec<String>,
    ) -> Flow<Result<Vec<String>, Reported>> {
        let mut hosts = BTreeSet::new();
        for host in asked {
            if host != "registries" {
                hosts.insert(host.to_ascii_lowercase());
                continue;
            }
            let root = self.desk.root().to_owned();
            let found = self.hearing(registries::of(&root)).await?;
            if found.hosts.is_empty() {
                let why = "no package registry is known for this folder's languages; name the host";
                return Ok(Err(Reported::failed(why)));
            }
            hosts.extend(found.hosts);
        }
        if hosts.len() > run::MAX_HOSTS {
            let why = format!("a command may reach {} hosts at most", run::MAX_HOSTS);
            return Ok(Err(Reported::failed(why)));
        }
        if let Some(wrong) = hosts.iter().find(|host| !run::is_host(host)) {
            let why = format!("{wrong:?} is no host: write HOST, *.HOST or HOST:PORT");
            return Ok(Err(Reported::failed(why)));
        }
        for host in &hosts {
            let verdict = self.desk.policy().judge_network(host, &self.grants);
            let asked = Asked {
                id: format!("{}.network.{}.{host}", self.id, call.id),
                call: Some(call.id.clone()),
                subject: Subject::Network {
                    host: host.clone(),
                    command: line.to_owned(),
                },
                reason: verdict.why.clone(),
                remembered: Some(Permission::Network(host.clone())),
            };
            if let Some(refused) = self.allowed(call, verdict, asked).await? {
                return Ok(Err(refused));
            }
        }
        // What was answered just now is a permission, too.
        self.look_at_grants().await?;
        Ok(Ok(hosts.into_iter().collect()))
    }

    async fn look_at_grants(&mut self) -> Flow<()> {
        let (log, id) = (self.setup.log.clone(), self.id.clone());
        self.grants = off_thread(move || log.grants(Some(&id)))
            .await?
            .map_err(|why| unread(&why))?;
        Ok(())
    }

    /// Takes hosts from a running command whose permissions are no more. `open` are all it may
    /// reach, `given` those of them that it may because of a permission.
    pub(super) async fn take_back(
        &mut self,
        open: &mut Vec<String>,
        given: &mut Vec<String>,
    ) -> Flow<()> {
        self.look_at_grants().await?;
        let is_gone = |host: &mut String| !grants_host(&self.grants, host);
        let gone: Vec<String> = given.extract_if(.., is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        open.retain(|host| !gone.contains(host));
        let Some(sandbox) = &self.sandbox else {
            return Ok(());
        };
        // A sandbox that does not obey must not go on.
        let taken = sandbox.set_network(open).await;
        taken.map_err(|why| End::Failed(format!("a permission could not be taken back: {why:#}")))
    }

    /// Closes the network after a command, and adds what it was denied to its result. The user can
    /// stop it.
    pub(super) async fn tell_denials(
        &mut self,
        call: &ToolCall,
        text: &mut String,
        beside: &mut Vec<EventKind>,
    ) -> Flow<()> {
        let asking = self.in_sandbox(async |sandbox| {
            // The next command sets its own hosts; a sandbox that is gone has none.
            let _ = sandbox.set_network(&[]).await;
            sandbox.denials().await
        });
        let denials = asking.await?;
        let mut seen = BTreeSet::new();
        for denial in denials.unwrap_or_default() {
            if seen.len() == TOLD || !seen.insert((denial.target.clone(), denial.reason.name())) {
                continue;
            }
            let denial = denied(call, &denial);
            text.push_str(&format!("\ndenied: {}: {}\n", denial.what, denial.why));
            if let Some(instead) = &denial.instead {
                text.push_str(&format!("instead: {instead}\n"));
            }
            beside.push(EventKind::Denied(denial));
        }
        Ok(())
    }
}

/// A denial of the network as every other.
fn denied(call: &ToolCall, denial: &Unreached) -> Denial {
    let what = match denial.target.as_str() {
        "" => "a connection".to_owned(),
        target => target.to_owned(),
    };
    let rule = denial.allowed_by.as_ref();
    Denial {
        call: call.id.clone(),
        rule: format!("network: {}", denial.reason.name()),
        what,
        why: denial.reason.in_words().to_owned(),
        instead: rule.map(|rule| format!("ask for it: run with network [\"{rule}\"]")),
    }
}
