//! MCP servers that a client names for a session.
//!
//! Holds: they are the user's, as the editor is, and no more than that: their tools are asked for
//! like those of the settings' servers, and programs get no other variables of ours. Names are made
//! to fit and to stay apart from the user's own, so that no rule for a server of the settings holds
//! for another one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::connection::Refusal;
use crate::config::layers::SERVER_NAME;
use crate::config::{McpServer, Settings};

/// Servers that one session may have.
const MOST: usize = 32;

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    /// `http`; programs have none.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Pair>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    name: String,
    value: String,
}

/// Reads `mcpServers`; a client that has none may leave it out.
pub(super) fn read(named: &Value) -> Result<BTreeMap<String, McpServer>, Refusal> {
    if named.is_null() {
        return Ok(BTreeMap::new());
    }
    // What serde says may quote a key.
    let named: Vec<Named> = Deserialize::deserialize(named)
        .map_err(|_| Refusal::params("`mcpServers` is no list of MCP servers"))?;
    if named.len() > MOST {
        return Err(Refusal::params(format!("more than {MOST} MCP servers")));
    }
    let mut servers = BTreeMap::new();
    for server in named {
        let name = free_name(&server.name, |name| servers.contains_key(name));
        servers.insert(name, server.read()?);
    }
    Ok(servers)
}

impl Named {
    fn read(self) -> Result<McpServer, Refusal> {
        let pairs = |pairs: Vec<Pair>| pairs.into_iter().map(|p| (p.name, p.value)).collect();
        let server = match (self.kind.as_deref(), self.command, self.url) {
            (None | Some("stdio"), Some(command), None) => McpServer {
                command: Some(command),
                args: self.args,
                env: pairs(self.env),
                ..McpServer::default()
            },
            (Some("http"), None, Some(url)) => McpServer {
                url: Some(url),
                headers: pairs(self.headers),
                ..McpServer::default()
            },
            _ => {
                let message = "an MCP server is a program with a `command`, or has the `type` http \
                               and a `url`";
                return Err(Refusal::params(message));
            }
        };
        Ok(server)
    }
}

/// The settings with the servers of a session besides the user's own.
pub(super) fn with(settings: &Settings, servers: &BTreeMap<String, McpServer>) -> Settings {
    let mut settings = settings.clone();
    let all = &mut settings.mcp.servers;
    for (name, server) in servers {
        let name = free_name(name, |name| all.contains_key(name));
        all.insert(name, server.clone());
    }
    settings
}

/// A name that tools can begin with, as near to the client's as can be had.
fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut fitting = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => fitting.push(c),
            _ if fitting.ends_with('-') => {}
            _ => fitting.push('-'),
        }
    }
    // Room for a number.
    fitting.truncate(SERVER_NAME - 3);
    let fitting = match fitting.trim_matches('-') {
        "" => "server",
        fitting => fitting,
    };
    let numbered = (2..).map(|n| format!("{fitting}-{n}"));
    let mut names = std::iter::once(fitting.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(name: &str) -> Value {
        json!({ "name": name, "command": "/bin/true", "args": [], "env": [] })
    }

    #[test]
    fn servers_keep_apart_from_each_other_and_from_the_users_own() {
        let long = "x".repeat(99);
        let named = json!([
            program("my notes"),
            program("my__notes"),
            program("🦀"),
            program(&long)
        ]);
        let read = read(&named).unwrap();
        let names: Vec<&str> = read.keys().map(String::as_str).collect();
        assert_eq!(names, ["my-notes", "my-notes-2", "server", &long[..21]]);
        let mut settings = Settings::default();
        let own = McpServer {
            command: Some("own".into()),
            ..McpServer::default()
        };
        settings.mcp.servers.insert("server".into(), own.clone());
        let all = with(&settings, &read).mcp.servers;
        assert_eq!(all["server"], own);
        assert_eq!(all["server-2"], read["server"]);
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn what_is_no_server_is_refused_without_its_keys() {
        let mut many = vec![program("one"); MOST];
        assert_eq!(read(&json!(many)).unwrap().len(), MOST);
        many.push(program("one"));
        let header = json!([{ "name": "Authorization", "value": "Bearer s3cret" }]);
        for wrong in [
            json!(many),
            json!({}),
            json!([{ "name": "a" }]),
            json!([{ "name": "a", "command": "b", "url": "http://c" }]),
            json!([{ "name": "a", "type": "sse", "url": "http://c", "headers": header }]),
            json!([{ "name": "a", "type": "http", "url": "http://c", "headers": "s3cret" }]),
        ] {
            let refused = read(&wrong).unwrap_err();
            assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
        }
    }
}
