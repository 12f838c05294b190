//! What a sandbox may reach, and what it is asked for.
//!
//! A rule is a host, `*.host`, an address or an address range, each perhaps with `:port`. Without a
//! port it means 443 and 80. A range lets every name be looked up, as its address decides; all other
//! rules let none be looked up that they do not name. What no rule names is denied, so the ranges
//! that E2B's protocol denies need no rule of their own; they are only checked to be ranges.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::protocol::{DenialReason, Network};

/// Rules of one sandbox.
const RULES: usize = 256;
/// Ports of a rule that names none.
const PORTS: [u16; 2] = [443, 80];

/// Where a connection is to go: a name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// In lower case, without a dot at the end.
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Reads a host as it stands in a request. `None` when it is none: names of other letters, and
    /// names that some programs read as numbers.
    pub(super) fn parse(host: &str, port: u16) -> Option<Self> {
        let host = Host::parse(host)?;
        (port != 0).then_some(Self { host, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The address, where no name is asked for.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::Address(address) => Some(address),
        }
    }

    /// The name, where one is asked for.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }

    /// The same host at another port.
    pub(super) fn at(&self, port: u16) -> Self {
        Self {
            host: self.host.clone(),
            port,
        }
    }

    /// The rule that would allow it.
    pub(super) fn rule(&self) -> String {
        match PORTS.contains(&self.port) {
            true => self.host.to_string(),
            false => self.to_string(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let address: Ipv6Addr = inner.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(letters)
        };
        // `0x7f.1` and `2130706433` are addresses to some resolvers.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with(|c: char| c.is_ascii_digit());
        let is_name = name.len() <= 253 && !is_number && name.split('.').all(is_label);
        is_name.then_some(Self::Name(name))
    }
}

/// All that one sandbox may reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    credentials: Vec<Credential>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Named(String),
    /// Names that end in a dot and this.
    Below(String),
    Within(IpNet),
}

/// Headers that requests to a host get outside.
#[derive(Debug, Clone)]
struct Credential {
    hosts: Hosts,
    /// `None` for every port that is allowed.
    port: Option<u16>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Policy {
    /// Reads what a creator asked for.
    ///
    /// # Errors
    /// The first entry that is no rule, and why.
    pub(crate) fn read(network: &Network) -> Result<Self, String> {
        if network.allow_out.len() + network.rules.len() > RULES {
            return Err(format!("more than {RULES} network rules"));
        }
        for denied in &network.deny_out {
            Hosts::range(denied).ok_or_else(|| {
                format!(
                    "denyOut has {}, which is no address or range",
                    short(denied)
                )
            })?;
        }
        let rules = network.allow_out.iter().map(|text| Rule::parse(text));
        let mut credentials = Vec::new();
        for (host, rules) in &network.rules {
            let Rule { hosts, port } = Rule::parse(host)?;
            if matches!(hosts, Hosts::Within(_)) {
                let host = short(host);
                return Err(format!(
                    "headers are for hosts with a name, and {host} is none"
                ));
            }
            let mut headers = Vec::new();
            for (name, value) in rules.iter().flat_map(|rule| &rule.transform.headers) {
                let parsed = HeaderName::try_from(name).ok();
                let value = HeaderValue::try_from(value).ok();
                // The value is a secret; the name is enough to find it.
                let (Some(name), Some(mut value)) = (parsed, value) else {
                    let (host, name) = (short(host), short(name));
                    return Err(format!("the header {name} for {host} cannot be sent"));
                };
                value.set_sensitive(true);
                headers.push((name, value));
            }
            credentials.push(Credential {
                hosts,
                port,
                headers,
            });
        }
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            credentials,
        })
    }

    /// What is allowed, as it was asked for.
    pub(in crate::service) fn names(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }

    /// Whether a target may be looked up at all. [`allows`](Self::allows) has the last word on each
    /// of its addresses.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, target: &Target) -> Result<(), DenialReason> {
        let mut denied = DenialReason::NotAllowed;
        for rule in &self.rules {
            let is_meant = match (&rule.hosts, &target.host) {
                // Its address decides. One address is no reason to look up every name.
                (Hosts::Within(range), Host::Name(_)) => {
                    range.prefix_len() < range.max_prefix_len()
                }
                (Hosts::Within(range), Host::Address(address)) => range.contains(address),
                (Hosts::Named(_) | Hosts::Below(_), _) => rule.hosts.has_name(target),
            };
            match (is_meant, rule.has_port(target.port)) {
                (true, true) => return Ok(()),
                (true, false) => denied = DenialReason::Port,
                (false, _) => {}
            }
        }
        Err(denied)
    }

    /// Whether a target may be reached at this address of it.
    pub(super) fn allows(&self, target: &Target, address: IpAddr) -> bool {
        self.rules.iter().any(|rule| {
            let is_meant = match &rule.hosts {
                Hosts::Within(range) => range.contains(&address),
                Hosts::Named(_) | Hosts::Below(_) => rule.hosts.has_name(target),
            };
            is_meant && rule.has_port(target.port)
        })
    }

    /// Headers to add to a request for a host, which then goes over TLS.
    pub(super) fn credentials(&self, target: &Target) -> Vec<(HeaderName, HeaderValue)> {
        let is_meant = |c: &&Credential| {
            c.hosts.has_name(target) && c.port.is_none_or(|port| port == target.port)
        };
        let meant = self.credentials.iter().filter(is_meant);
        meant.flat_map(|c| c.headers.clone()).collect()
    }
}

impl Hosts {
    fn range(text: &str) -> Option<IpNet> {
        let address = |text: &str| text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(|| address(text))
    }

    fn has_name(&self, target: &Target) -> bool {
        match (self, &target.host) {
            (Self::Named(own), Host::Name(name)) => own == name,
            (Self::Below(own), Host::Name(name)) => {
                let rest = name.strip_suffix(own.as_str());
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Within(_), _) | (_, Host::Address(_)) => false,
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("the network rule {} {why}", short(text));
        if let Some(range) = Hosts::range(text) {
            let hosts = Hosts::Within(range);
            return Ok(Self { hosts, port: None });
        }
        let split = text.rsplit_once(':').filter(|(_, port)| {
            !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
        });
        let (host, port) = match split {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, Some(port.ok_or_else(|| wrong("has no port"))?))
            }
            None => (text, None),
        };
        if let Some(range) = Hosts::range(host) {
            let hosts = Hosts::Within(range);
            return Ok(Self { hosts, port });
        }
        if let Some(below) = host.strip_prefix("*.") {
            return match Host::parse(below) {
                Some(Host::Name(name)) if name.contains('.') => {
                    let hosts = Hosts::Below(name);
                    Ok(Self { hosts, port })
                }
                Some(Host::Name(_)) => Err(wrong("is too wide")),
                Some(Host::Address(_)) | None => Err(wrong("is no host")),
            };
        }
        let hosts = match Host::parse(host).ok_or_else(|| wrong("is no host"))? {
            Host::Name(name) => Hosts::Named(name),
            Host::Address(address) => Hosts::Within(address.into()),
        };
        Ok(Self { hosts, port })
    }

    fn has_port(&self, port: u16) -> bool {
        match self.port {
            Some(own) => own == port,
            None => PORTS.contains(&port),
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hosts {
            Hosts::Named(name) => f.write_str(name)?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
            Hosts::Within(range) if range.prefix_len() == range.max_prefix_len() => {
                Host::Address(range.addr()).fmt(f)?;
            }
            Hosts::Within(range) => range.fmt(f)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The beginning of a text that somebody else wrote.
fn short(text: &str) -> String {
    let text: String = text.chars().take(80).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::{HostRule, Transform};

    fn policy(rules: &[&str]) -> Result<Policy, String> {
        Policy::read(&Network {
            allow_out: rules.iter().map(ToString::to_string).collect(),
            ..Network::none()
        })
    }

    /// What a policy says to `host` at `port`, `none` when that is no host.
    fn judged(rules: &[&str], host: &str, port: u16) -> String {
        let policy = policy(rules).unwrap();
        match Target::parse(host, port).map(|target| policy.judge(&target)) {
            None => "none".to_owned(),
            Some(Ok(())) => "allowed".to_owned(),
            Some(Err(reason)) => format!("{reason:?}"),
        }
    }

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        for (rules, host, port, expected) in [
            (&[][..], "a.example", 443, "NotAllowed"),
            (&["a.example"][..], "a.example", 443, "allowed"),
            (&["a.example"], "A.Example.", 80, "allowed"),
            (&["a.example"], "a.example", 22, "Port"),
            (&["a.example:8443"], "a.example", 8443, "allowed"),
            (&["a.example:8443"], "a.example", 443, "Port"),
            (&["a.example"], "b.a.example", 443, "NotAllowed"),
            (&["a.example"], "a.example.evil.test", 443, "NotAllowed"),
            (&["a.example"], "xa.example", 443, "NotAllowed"),
            (&["*.a.example"], "b.a.example", 443, "allowed"),
            (&["*.a.example"], "c.b.a.example", 443, "allowed"),
            (&["*.a.example"], "a.example", 443, "NotAllowed"),
            (&["*.a.example"], "xa.example", 443, "NotAllowed"),
            (&["8.8.8.0/24"], "8.8.8.8", 443, "allowed"),
            (&["8.8.8.0/24"], "8.8.9.8", 443, "NotAllowed"),
            (&["8.8.8.0/24:853"], "8.8.8.8", 853, "allowed"),
            (&["8.8.8.0/24:853"], "8.8.8.8", 443, "Port"),
            (&["8.8.8.8:853"], "8.8.8.8", 443, "Port"),
            (&["8.8.8.0/24"], "dns.example", 443, "allowed"),
            (&["8.8.8.8"], "dns.example", 443, "NotAllowed"),
            (&["2606:4700::1111"], "[2606:4700::1111]", 443, "allowed"),
            (&["a.example"], "2852039166", 80, "none"),
            (&["a.example"], "0xA9FEA9FE", 80, "none"),
            (&["a.example"], "0251.0376.0251.0376", 80, "none"),
            (&["a.example"], "127.1", 80, "none"),
            (&["a.example"], "a.example\0.evil.test", 443, "none"),
            (&["a.example"], "a.exam\u{ff50}le", 443, "none"),
            (&["a.example"], "", 443, "none"),
            (&["a.example"], "a.example", 0, "none"),
        ] {
            assert_eq!(judged(rules, host, port), expected, "{rules:?} {host}");
        }
    }

    #[test]
    fn a_range_decides_by_the_address_of_a_name() {
        let policy = policy(&["8.8.8.0/24"]).unwrap();
        let target = Target::parse("dns.example", 443).unwrap();
        assert!(policy.allows(&target, "8.8.8.8".parse().unwrap()));
        assert!(!policy.allows(&target, "9.9.9.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_is_wrong() {
        for (rule, why) in [
            ("*", "is no host"),
            ("*.com", "is too wide"),
            ("https://a.example", "is no host"),
            ("a.example/path", "is no host"),
            ("a.example:99999", "has no port"),
            ("a b", "is no host"),
        ] {
            let error = policy(&[rule]).map(drop).unwrap_err();
            assert!(error.ends_with(why), "{rule}: {error}");
        }
        let network = Network {
            deny_out: vec!["a.example".to_owned()],
            ..Network::default()
        };
        let error = Policy::read(&network).map(drop).unwrap_err();
        assert!(error.contains("no address or range"), "{error}");
    }

    fn with_header(host: &str) -> Result<Policy, String> {
        let headers = BTreeMap::from([("x-key".to_owned(), "hush".to_owned())]);
        let transform = Transform { headers };
        Policy::read(&Network {
            rules: BTreeMap::from([(host.to_owned(), vec![HostRule { transform }])]),
            ..Network::default()
        })
    }

    #[test]
    fn a_header_is_for_the_hosts_and_the_port_that_its_rule_names() {
        for (rule, host, port, n_headers) in [
            ("a.example", "a.example", 443, 1),
            ("a.example", "a.example", 8443, 1),
            ("a.example", "b.example", 443, 0),
            ("*.a.example", "b.a.example", 443, 1),
            ("a.example:8443", "a.example", 8443, 1),
            ("a.example:8443", "a.example", 443, 0),
        ] {
            let target = Target::parse(host, port).unwrap();
            let headers = with_header(rule).unwrap().credentials(&target);
            assert_eq!(headers.len(), n_headers, "{rule} {target}");
        }
        let error = with_header("8.8.8.0/24").map(drop).unwrap_err();
        assert!(error.contains("hosts with a name"), "{error}");
    }
}
