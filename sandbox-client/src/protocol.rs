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
}

impl Network {
    /// Denies everything, in words that no service takes for its default.
    pub fn none() -> Self {
        Self {
            allow_out: Vec::new(),
            deny_out: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
        }
    }
}

/// What only a service on this machine can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalCreate {
    /// A directory of this machine, seen at its own path. Never written.
    pub workspace: Option<PathBuf>,
    /// Files and directories of it that are hidden.
    pub masks: Vec<PathBuf>,
    /// More of this machine that can be read.
    pub read_roots: Vec<PathBuf>,
    /// The sandbox to make; the weakest that is acceptable, if none is named.
    pub tier: Option<Tier>,
    /// The weakest sandbox that is acceptable.
    pub min_isolation: Option<Tier>,
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
