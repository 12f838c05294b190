//! What a command may reach, as the command line names it, and what it was denied.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use sandbox_client::protocol::{Denial, HostRule, Network, Transform};

use super::Run;
use crate::agent::registries;
use crate::cli::style::{self, harmless, paint};
use crate::error::{Kind, UserError};

/// Different denials that are told of.
const MOST: usize = 100;

impl Run {
    /// What the command may reach, as it was named.
    pub(super) async fn network(&self, root: &Path) -> anyhow::Result<Network> {
        let mut allowed: Vec<String> = self.net_local.iter().map(ToString::to_string).collect();
        for name in &self.net {
            match name.as_str() {
                "none" if self.net.len() > 1 => bail!("--net none goes with nothing else"),
                "none" => {}
                "registries" => {
                    let found = registries::of(root).await;
                    for silent in &found.silent {
                        let line = format!("{silent} does not say which registry it uses; name it");
                        writeln!(anstream::stderr(), "{}", paint(style::WARN, line))?;
                    }
                    if found.hosts.is_empty() {
                        let why = "No package registry was found for this folder.";
                        let hint = "Name the hosts: --net HOST,HOST.";
                        return Err(UserError::new(Kind::Settings, why).with_hint(hint).into());
                    }
                    allowed.extend(found.hosts);
                }
                host => allowed.push(host.to_owned()),
            }
        }
        let mut rules: BTreeMap<String, Vec<HostRule>> = BTreeMap::new();
        for credential in &self.credential {
            let parts = credential.split_once('=');
            let parts = parts.and_then(|(host, rest)| Some((host, rest.split_once(':')?)));
            let Some((host, (header, variable))) = parts else {
                bail!("--credential is HOST=HEADER:VARIABLE, with the name of a variable");
            };
            let value = std::env::var(variable)
                .with_context(|| format!("the variable {variable} cannot be read"))?;
            let headers = BTreeMap::from([(header.to_owned(), value)]);
            let transform = Transform { headers };
            rules
                .entry(host.to_owned())
                .or_default()
                .push(HostRule { transform });
        }
        Ok(Network {
            allow_out: allowed,
            rules,
            ..Network::none()
        })
    }
}

/// Tells what was denied, each thing once.
pub(super) struct Denials {
    json: bool,
    /// The number of the last one.
    pub(super) last: u64,
    told: BTreeSet<(String, &'static str)>,
}

impl Denials {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            last: 0,
            told: BTreeSet::new(),
        }
    }

    pub(super) fn show(&mut self, denials: &[Denial]) -> io::Result<()> {
        for denial in denials {
            if denial.seq <= self.last {
                continue;
            }
            self.last = denial.seq;
            let is_new = self.told.len() < MOST
                && self
                    .told
                    .insert((denial.target.clone(), denial.reason.name()));
            if self.json && is_new {
                writeln!(io::stdout(), "{}", serde_json::json!({ "denied": denial }))?;
            } else if is_new {
                let mut line = format!(
                    "denied: {} {}",
                    harmless(&denial.target),
                    denial.reason.in_words()
                );
                if let Some(rule) = &denial.allowed_by {
                    line += &format!("; --net {} would allow it", harmless(rule));
                }
                writeln!(anstream::stderr(), "{}", paint(style::WARN, line))?;
            }
        }
        Ok(())
    }
}
