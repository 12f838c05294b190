//! Tools of other programs, by the Model Context Protocol: servers that the user's settings name.
//!
//! Holds: what a server says is somebody else's text. Its tools are bounded in number and size, what
//! they say of themselves loses everything that is not seen, and nothing in it allows anything. A
//! server that is slow, dead or endless costs the call that waits for it and nothing more. A
//! program gets the variables it is given and no others, is started outside the workspace, and is
//! killed with all it started when its connection is dropped.
//! Not here: whether a tool may be called (`agent::policy`), what is done with its answer
//! (`agent::drive`). Servers are offered nothing in return: no files, no questions, no model.

mod answer;
mod http;
mod offer;
mod program;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation,
    PaginatedRequestParams,
};
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use rmcp::{RoleClient, serve_client};
use serde::Serialize;
use serde_json::{Map, Value};

use self::answer::Secrets;
use self::http::Place;
use self::offer::{Bounds, Offered};
use self::program::{Metered, Program};
use crate::config::{McpServer, Settings};
use crate::error::{Kind, UserError};
use crate::model::{Network, NetworkSettings, ToolSpec};
use crate::shown::printable;

/// What every name of a tool begins with.
pub const PREFIX: &str = "mcp__";
/// Bytes that a server may send for one request.
const MAX_SAID: usize = 8 << 20;
/// Pages of tools that are asked for.
const PAGES: usize = 8;
/// How long a server may take to end by itself.
const FAREWELL: Duration = Duration::from_millis(500);

/// The servers that the settings name. Cheap to clone; nothing is started or connected.
#[derive(Debug, Clone, Default)]
pub struct Servers(Arc<Named>);

#[derive(Debug, Default)]
struct Named {
    servers: Vec<Server>,
    /// Why others cannot be had.
    problems: Vec<UserError>,
}

#[derive(Debug)]
struct Server {
    name: String,
    way: Way,
    patience: Duration,
    secrets: Secrets,
}

#[derive(Debug)]
enum Way {
    Program(program::Start),
    Http(Place),
}

/// Servers that answered, and the tools they offer. Dropping it kills the programs.
#[derive(Debug, Default)]
pub struct Connected {
    servers: Vec<Connection>,
    tools: BTreeMap<String, Offered>,
    /// What could not be had.
    pub problems: Vec<UserError>,
}

type Service = RunningService<RoleClient, ClientConfig>;

#[derive(Debug)]
struct Connection {
    name: String,
    service: Service,
    program: Option<Program>,
    /// Bytes that it may still send for the present request.
    left: Arc<AtomicUsize>,
    secrets: Secrets,
}

/// What one server is found to be, for `pairwright doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    pub name: String,
    pub tools: Vec<String>,
}

impl Servers {
    /// Reads the settings. What cannot work is told when it is connected to.
    pub fn of(settings: &Settings) -> Self {
        let settings_of = &settings.mcp.servers;
        let mut named = Named::default();
        let network = match settings_of.values().any(|s| s.url.is_some()) {
            true => Network::new(&NetworkSettings {
                // Looks at what goes to models.
                outbound: None,
                ..crate::models::network(settings)
            })
            .map_err(|why| named.problems.push(why))
            .ok(),
            false => None,
        };
        for (name, server) in settings_of {
            match Server::of(name, server, network.as_ref()) {
                Ok(Some(server)) => named.servers.push(server),
                Ok(None) => {}
                Err(why) => named.problems.push(why),
            }
        }
        Self(Arc::new(named))
    }

    /// Whether the settings name none.
    pub fn is_empty(&self) -> bool {
        self.0.servers.is_empty() && self.0.problems.is_empty()
    }

    /// Starts and asks all servers at once, each for as long as its settings say.
    pub async fn connect(&self) -> Connected {
        let servers = &self.0.servers;
        let connecting = servers.iter().map(Server::connect);
        let mut connected = Connected {
            problems: self.0.problems.clone(),
            ..Connected::default()
        };
        let mut bounds = Bounds::default();
        for (server, outcome) in servers.iter().zip(join_all(connecting).await) {
            match outcome {
                Ok((connection, tools)) => {
                    let idx = connected.servers.len();
                    let (offered, left_out) = offer::offer(&server.name, idx, tools, &mut bounds);
                    connected.tools.extend(offered);
                    let left_out = left_out.into_iter();
                    let left_out = left_out.map(|text| UserError::new(Kind::Upstream, text));
                    connected.problems.extend(left_out);
                    connected.servers.push(connection);
                }
                Err(why) => {
                    let why = printable(&server.secrets.hide(&why));
                    let name = &server.name;
                    let message = format!("The MCP server `{name}` cannot be used: {why}.");
                    let problem = UserError::new(Kind::Upstream, message);
                    let hint = format!("Correct `mcp.servers.{name}`.");
                    connected.problems.push(problem.with_hint(hint));
                }
            }
        }
        connected
    }
}

impl Server {
    fn of(
        name: &str,
        server: &McpServer,
        network: Option<&Network>,
    ) -> Result<Option<Self>, UserError> {
        let (way, secrets) = match (&server.command, &server.url, network) {
            (Some(command), _, _) => {
                let start = program::Start::of(command, server);
                let secrets = Secrets::of_variables(&start.variables);
                (Way::Program(start), secrets)
            }
            (None, Some(url), Some(network)) => {
                let section = format!("mcp.servers.{name}");
                let (place, secrets) = Place::of(&section, url, server, network)?;
                (Way::Http(place), secrets)
            }
            // Why there is no network is said already.
            (None, Some(_), None) => return Ok(None),
            (None, None, _) => {
                let message = format!("The MCP server `{name}` has no command and no address.");
                return Err(UserError::new(Kind::Settings, message));
            }
        };
        Ok(Some(Self {
            name: name.to_owned(),
            way,
            patience: Duration::from_secs(u64::from(server.startup_seconds)),
            secrets,
        }))
    }

    async fn connect(&self) -> Result<(Connection, Vec<rmcp::model::Tool>), String> {
        let left = Arc::new(AtomicUsize::new(MAX_SAID));
        let us = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("pairwright", env!("CARGO_PKG_VERSION")),
        );
        let deadline = tokio::time::Instant::now() + self.patience;
        let in_time = || format!("it did not answer within {} s", self.patience.as_secs());
        let (service, mut program) = match &self.way {
            Way::Program(start) => {
                let (mut program, output, input) = start.start()?;
                let output = Metered::new(output, Arc::clone(&left));
                let transport =
                    AsyncRwTransport::new_client(output, input).with_max_line_length(MAX_SAID);
                let serving = tokio::time::timeout_at(deadline, serve_client(us, transport));
                match serving.await {
                    Ok(Ok(service)) => (service, Some(program)),
                    Ok(Err(why)) => return Err(program.last_words(answer::unstarted(&why)).await),
                    Err(_) => return Err(program.last_words(in_time()).await),
                }
            }
            Way::Http(place) => {
                let client = place.client(Arc::clone(&left))?;
                let config = StreamableHttpClientTransportConfig::with_uri(place.shown());
                let transport = StreamableHttpClientTransport::with_client(client, config);
                let serving = tokio::time::timeout_at(deadline, serve_client(us, transport));
                match serving.await {
                    Ok(Ok(service)) => (service, None),
                    Ok(Err(why)) => return Err(answer::unstarted(&why)),
                    Err(_) => return Err(in_time()),
                }
            }
        };
        let listed = tokio::time::timeout_at(deadline, list(&service, &left)).await;
        let why = match listed {
            Ok(Ok(tools)) => {
                let connection = Connection {
                    name: self.name.clone(),
                    service,
                    program,
                    left,
                    secrets: self.secrets.clone(),
                };
                return Ok((connection, tools));
            }
            Ok(Err(why)) => format!("its tools are not known: {}", answer::failure(&why)),
            Err(_) => in_time(),
        };
        match &mut program {
            Some(program) => Err(program.last_words(why).await),
            None => Err(why),
        }
    }
}

async fn list(
    service: &Service,
    left: &AtomicUsize,
) -> Result<Vec<rmcp::model::Tool>, ServiceError> {
    let mut tools = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES {
        left.store(MAX_SAID, Ordering::Relaxed);
        let mut page = PaginatedRequestParams::default();
        page.cursor = cursor;
        let listed = service.list_tools(Some(page)).await?;
        tools.extend(listed.tools);
        cursor = listed.next_cursor;
        if cursor.is_none() || tools.len() > offer::TOOLS {
            break;
        }
    }
    Ok(tools)
}

impl Connected {
    /// What a model is told of the tools, in an order that stays the same.
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.values().map(|tool| &tool.spec)
    }

    pub fn has(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    /// What each server offers.
    pub fn found(&self) -> Vec<Found> {
        let of = |(idx, server): (usize, &Connection)| {
            let tools = self.tools.iter().filter(|(_, tool)| tool.server == idx);
            Found {
                name: server.name.clone(),
                tools: tools.map(|(name, _)| name.clone()).collect(),
            }
        };
        self.servers.iter().enumerate().map(of).collect()
    }

    /// Calls a tool. Dropping the future tells the server that nobody waits any more.
    ///
    /// # Errors
    /// What went wrong, in words for the model: the tool's own among them, which are data.
    pub async fn call(
        &mut self,
        tool: &str,
        arguments: Map<String, Value>,
        deadline: Duration,
    ) -> Result<String, String> {
        let offered = self.tools.get(tool);
        let offered = offered.ok_or_else(|| format!("there is no tool {tool:?}"))?;
        let server = &mut self.servers[offered.server];
        server.left.store(MAX_SAID, Ordering::Relaxed);
        let params = CallToolRequestParams::new(offered.name.clone()).with_arguments(arguments);
        let calling = tokio::time::timeout(deadline, server.service.call_tool_once(params));
        let said = match calling.await {
            Ok(Ok(CallToolResponse::Complete(result))) => answer::of(result),
            Ok(Ok(_)) => Err(format!(
                "the MCP server `{}` wants something of the user before it answers, which it cannot have here",
                server.name
            )),
            Ok(Err(why)) => Err(server.failed(&why).await),
            Err(_) => Err(format!(
                "the MCP server `{}` did not answer within {} s. The call was given up; what it did until then stands",
                server.name,
                deadline.as_secs()
            )),
        };
        match said {
            Ok(text) => Ok(server.secrets.hide(&text)),
            Err(why) => Err(server.secrets.hide(&why)),
        }
    }

    /// Ends all connections, and the programs behind them.
    pub async fn close(self) {
        join_all(self.servers.into_iter().map(Connection::close)).await;
    }
}

impl Connection {
    /// Says what kept a server from answering.
    async fn failed(&mut self, why: &ServiceError) -> String {
        let name = &self.name;
        if let ServiceError::McpError(error) = why {
            return format!("the MCP server `{name}` refused: {}", error.message);
        }
        let mut text = format!("the MCP server `{name}` failed: {}", answer::failure(why));
        if self.left.load(Ordering::Relaxed) == 0 {
            let most = MAX_SAID >> 20;
            text = format!("the MCP server `{name}` sent more than {most} MiB and was cut off");
        }
        match &mut self.program {
            Some(program) if self.service.is_transport_closed() => {
                let text = program.last_words(text).await;
                format!("{text}. Its tools cannot be used in this task any more")
            }
            _ => text,
        }
    }

    async fn close(mut self) {
        let _ = self.service.close_with_timeout(FAREWELL).await;
        if let Some(program) = self.program {
            program.end(FAREWELL).await;
        }
    }
}
