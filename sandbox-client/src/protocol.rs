//! Messages of E2B's control plane, and the one field that is ours.
//!
//! Source: `spec/openapi.yml` of e2b-dev/infra. Unknown fields are ignored, missing ones have
//! their defaults. A service that is not ours ignores `pairwright`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// The port that `envd` has in every sandbox.
pub const ENVD_PORT: u16 = 49_983;
/// Names the sandbox a request is for, where one address serves all.
pub const SANDBOX_HEADER: &str = "e2b-sandbox-id";
pub const PORT_HEADER: &str = "e2b-sandbox-port";
pub const KEY_HEADER: &str = "x-api-key";
/// The key of one sandbox.
pub const TOKEN_HEADER: &str = "x-access-token";
/// The features of `envd` that a client may expect.
pub const ENVD_VERSION: &str = "0.6.4";

/// `POST /sandboxes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Create {
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds until it is destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    pub metadata: BTreeMap<String, String>,
    pub env_vars: BTreeMap<String, String>,
    pub secure: bool,
    #[serde(rename = "allow_internet_access")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairwright: Option<LocalCreate>,
}

/// What may be reached from inside. Allowing wins over denying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Address ranges, addresses, `host`, `*.host`.
    pub allow_out: Vec<String>,
    /// Address ranges and addresses.
    pub deny_out: Vec<String>,
    /// What requests to a host get outside, by host. A host must be allowed too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, Vec<HostRule>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRule {
    pub transform: Transform,
}

/// What is changed in a request outside the sandbox.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transform {
    /// Headers that are set. Their values are secrets.
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.headers.keys()).finish()
    }
}

impl Network {
    /// Denies everything, in words that no service takes for its default.
    pub fn none() -> Self {
        Self {
            allow_out: Vec::new(),
            deny_out: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            rules: BTreeMap::new(),
        }
    }
}

/// What only a service on this machine can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalCreate {
    /// A directory of this machine, seen at its own path. Never written. In a sandbox of the tier
    /// `landlock` it is not seen: it is to be copied there ([`crate::copy`]).
    pub workspace: Option<PathBuf>,
    /// Files and directories of it that are hidden.
    pub masks: Vec<PathBuf>,
    /// More of this machine that can be read.
    pub read_roots: Vec<PathBuf>,
    /// The sandbox to make; the weakest that is acceptable, if none is named.
    pub tier: Option<Tier>,
    /// The weakest sandbox that is acceptable; `namespace`, if nothing is said.
    pub min_isolation: Option<Tier>,
    /// Where none is named: the strongest that there is, not the weakest that is acceptable. An
    /// emulated machine is only one where a machine is demanded.
    pub strongest: bool,
    pub limits: Option<LimitsAsked>,
}

/// Limits of a sandbox; what is not given is the service's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsAsked {
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub processors: Option<u32>,
    pub command_seconds: Option<u64>,
}

/// The answer to creating and connecting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Created {
    #[serde(rename = "templateID")]
    pub template_id: String,
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub envd_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairwright: Option<LocalCreated>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCreated {
    /// What it really is.
    pub tier: Tier,
    /// Where it is weaker than the tier's name says, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What it may reach; nothing else.
    #[serde(default)]
    pub network: Vec<String>,
}

/// Something that a sandbox wanted of the network and did not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// Counts the denials of a sandbox, from 1.
    pub seq: u64,
    pub op: DenialOp,
    /// `host:port` as far as it was understood; written by whatever runs inside.
    pub target: String,
    pub reason: DenialReason,
    /// The rule of [`Network::allow_out`] that would allow it, where one can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allowed_by: Option<String>,
}

/// What was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialOp {
    /// A connection to the proxy itself.
    Connection,
    /// A tunnel for TLS.
    Connect,
    /// A request over plain HTTP.
    Request,
}

/// Why it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialReason {
    NotAllowed,
    Port,
    NotGlobal,
    ServerName,
    NotTls,
    HostHeader,
    Malformed,
    TooSlow,
    TooManyConnections,
    TooManyBytes,
    Revoked,
}

impl DenialReason {
    /// As in JSON and in the header `x-sandbox-deny`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Port => "port",
            Self::NotGlobal => "not-global",
            Self::ServerName => "server-name",
            Self::NotTls => "not-tls",
            Self::HostHeader => "host-header",
            Self::Malformed => "malformed",
            Self::TooSlow => "too-slow",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyBytes => "too-many-bytes",
            Self::Revoked => "revoked",
        }
    }

    /// In words, to stand after "denied: host:port:".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NotAllowed => "nothing allows this host",
            Self::Port => "the host is allowed, this port is not",
            Self::NotGlobal => {
                "its address is of this machine, a private network or a metadata service"
            }
            Self::ServerName => "TLS was begun for another host than the tunnel was opened for",
            Self::NotTls => "a tunnel carries TLS and nothing else",
            Self::HostHeader => "the Host header names another host than the address",
            Self::Malformed => "the request cannot be understood, or is too long",
            Self::TooSlow => "nothing came for too long",
            Self::TooManyConnections => "too many connections are open",
            Self::TooManyBytes => "the sandbox has sent and received all it may",
            Self::Revoked => "it is no longer allowed",
        }
    }
}

/// One sandbox in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Info {
    #[serde(rename = "templateID")]
    pub template_id: String,
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub started_at: String,
    pub end_at: String,
    pub state: String,
    pub cpu_count: u32,
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    pub envd_version: String,
    pub metadata: BTreeMap<String, String>,
}

/// `POST /sandboxes/{id}/timeout`, `/connect`, `/refreshes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetTimeout {
    /// Seconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}

/// What a refusal says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    pub code: u16,
    pub message: String,
}
