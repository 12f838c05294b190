//! Calls of tools of MCP servers.
//!
//! Holds: a call is written down as begun before the server hears of it, so that after a crash it
//! is unknown and never made again by itself. A task whose servers are slow does not wait longer
//! than their settings say, and hears its user meanwhile.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::task::AbortOnDropHandle;

use super::approve::Asked;
use super::call::Reported;
use super::{Driver, Flow};
use crate::agent::tools::bounded;
use crate::error::UserError;
use crate::mcp::Connected;
use crate::model::ToolCall;
use crate::store::events::{EventKind, Permission, Subject};

type Connecting = Option<AbortOnDropHandle<Connected>>;

impl Driver {
    /// Begins to connect to the servers, where the task may call them at all.
    pub(super) fn connect_servers(&self) -> Connecting {
        let servers = self.setup.servers.clone();
        let is_wanted = self.mode.changes() && !servers.is_empty();
        is_wanted.then(|| {
            let connecting = tokio::spawn(async move { servers.connect().await });
            AbortOnDropHandle::new(connecting)
        })
    }

    /// Waits for the servers and says which cannot be used.
    pub(super) async fn take_servers(&mut self, connecting: Connecting) -> Flow<()> {
        let Some(connecting) = connecting else {
            return Ok(());
        };
        self.servers = self.hearing(connecting).await?.unwrap_or_default();
        let problems = std::mem::take(&mut self.servers.problems).into_iter();
        let notice = |problem: UserError| EventKind::Notice {
            text: problem.to_string(),
        };
        self.record(problems.map(notice).collect()).await
    }

    pub(super) async fn call_server(
        &mut self,
        call: &ToolCall,
        arguments: Map<String, Value>,
    ) -> Flow<Reported> {
        let verdict = self.desk.policy().judge_tool(&call.name, &self.grants);
        let asked = Asked {
            id: format!("{}.tool.{}", self.id, call.id),
            call: Some(call.id.clone()),
            subject: Subject::Tool {
                tool: call.name.clone(),
                arguments: Value::Object(arguments.clone()).to_string(),
            },
            reason: verdict.why.clone(),
            remembered: Some(Permission::Tool(call.name.clone())),
        };
        if let Some(refused) = self.allowed(call, verdict, asked).await? {
            return Ok(refused);
        }
        let began = EventKind::ToolStarted {
            call: call.id.clone(),
            sandbox: None,
        };
        self.record(vec![began]).await?;
        let deadline = Duration::from_secs(self.governor.ceilings().command);
        // Apart from the driver, which hears its user while the server works.
        let mut servers = std::mem::take(&mut self.servers);
        let calling = servers.call(&call.name, arguments, deadline);
        let said = self.hearing(calling).await;
        self.servers = servers;
        Ok(Reported::of(said?.map(bounded).map_err(bounded)))
    }
}
