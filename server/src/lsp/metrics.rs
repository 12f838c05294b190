//! `pairwright/metrics/get`: counts of ghost text since the server started, and of the work in the
//! first folder over a month.

use serde::Serialize;
use serde_json::Value;
use tower_lsp_server::jsonrpc;

use super::Server;
use super::edits::failed;
use crate::store::now;
use crate::{complete, metrics};

/// Milliseconds.
const MONTH: i64 = 30 * 24 * 60 * 60 * 1000;

#[derive(Debug, Serialize)]
pub(super) struct Metrics {
    #[serde(flatten)]
    completions: complete::metrics::Report,
    /// `None` without a folder, or where its database cannot be read; the log says why.
    work: Option<metrics::Report>,
}

impl Server {
    pub(super) async fn metrics(&self, _: Value) -> jsonrpc::Result<Metrics> {
        let completions = self.completer.metrics().report();
        let work = match self.first_root() {
            Ok(root) => self
                .with_workspace(root, |workspace, documents| {
                    metrics::report(workspace, documents, now() - MONTH)
                        .map_err(|why| failed(&why.to_string()))
                })
                .await
                .inspect_err(|why| tracing::warn!("the work is not counted: {}", why.message))
                .ok(),
            Err(_) => None,
        };
        Ok(Metrics { completions, work })
    }
}
