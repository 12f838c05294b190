//! Tasks that were left when an editor or its server ended: told once, when the server starts or
//! their folder is added.
//!
//! Holds: nothing is taken up by itself. A task that another process works on is not told. An
//! editor without buttons shows the command that takes the task up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::Server;
use super::edits::failed;
use super::tasks::TaskParams;
use crate::shown::{harmless, printable};
use crate::store::events::{EventKind, EventLog, Session};

const RESUME: &str = "Resume";
const SHOW: &str = "Show";
const STOP: &str = "Stop";

/// A task that is not over.
struct Left {
    task: Session,
    log: EventLog,
}

impl Server {
    /// Tells of the newest task in `roots` that is not over, and of how many more there are.
    pub(super) async fn tell_unfinished(self, roots: Vec<PathBuf>) {
        let found = self.on_disk(move |server| {
            let mut left = Vec::new();
            for root in &roots {
                match server.left_in(root) {
                    Ok(tasks) => left.extend(tasks),
                    Err(why) => {
                        let root = root.display();
                        tracing::warn!("unfinished tasks of {root} are not known: {why:#}");
                    }
                }
            }
            // Ids sort by time.
            left.sort_by(|a, b| b.task.id.cmp(&a.task.id));
            Ok(left)
        });
        let Ok(left) = found.await else { return };
        let Some(newest) = left.first() else { return };
        let title = |title: &str| lsp::MessageActionItem {
            title: title.to_owned(),
            ..lsp::MessageActionItem::default()
        };
        let asked = self.client.show_message_request(
            lsp::MessageType::Info,
            message(&newest.task, left.len() - 1),
            Some(vec![title(RESUME), title(SHOW), title(STOP)]),
        );
        let chosen = asked.await.ok().flatten().map(|action| action.title);
        let done = match chosen.as_deref() {
            Some(RESUME) => self.take_up(&newest.task.id).await,
            Some(SHOW) => self.show_left(newest).await,
            Some(STOP) => self.stop_left(&newest.task.id).await,
            Some(_) | None => return,
        };
        if let Err(why) = done {
            let message = why.message.into_owned();
            self.client
                .show_message(lsp::MessageType::Error, message)
                .await;
        }
    }

    fn left_in(&self, root: &Path) -> anyhow::Result<Vec<Left>> {
        let log = self.log_of(root)?;
        let left = |task| Left {
            task,
            log: log.clone(),
        };
        let unfinished = self.tasks.unfinished(&log)?;
        Ok(unfinished.into_iter().map(left).collect())
    }

    async fn take_up(&self, task: &str) -> jsonrpc::Result<()> {
        let params = TaskParams {
            task: task.to_owned(),
            text: None,
        };
        self.task_resume(params).await.map(drop)
    }

    async fn stop_left(&self, task: &str) -> jsonrpc::Result<()> {
        let params = TaskParams {
            task: task.to_owned(),
            text: None,
        };
        self.task_stop(params).await.map(drop)
    }

    async fn show_left(&self, left: &Left) -> jsonrpc::Result<()> {
        let (log, task) = (left.log.clone(), left.task.clone());
        let text = self
            .on_disk(move |_| story(&log, &task).map_err(|why| failed(&why)))
            .await?;
        let shown = self.show_document(&left.task.id, &text).await;
        shown.map_err(|why| failed(&format!("{why:#}")))
    }
}

fn command(task: &Session) -> String {
    format!("pairwright task --resume {}", task.id)
}

fn message(task: &Session, n_more: usize) -> String {
    let title = printable(&task.title);
    let more = match n_more {
        0 => String::new(),
        n => format!(" {n} more are listed by: pairwright audit show"),
    };
    format!(
        "A task is not finished: {title}. Take it up here, or in a terminal with: {}{more}",
        command(task)
    )
}

/// How far a task came, in Markdown.
fn story(log: &EventLog, task: &Session) -> Result<String, String> {
    let known = log.task(&task.id).map_err(|why| why.to_string())?;
    let known = known.ok_or("the task is gone")?;
    let events = log
        .read_from(&task.id, 1, usize::MAX)
        .map_err(|why| why.to_string())?;
    let why = known.why.map_or_else(String::new, |why| format!(": {why}"));
    let mut text = format!(
        "# A task that is not finished\n\n{}\n\n{}{why}, after {} steps and {} tokens. Take it up with `{}`.\n",
        harmless(&known.intake.prompt),
        known.state.name(),
        known.spent.steps,
        known.spent.tokens,
        command(task)
    );
    let files = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Diff { files, .. } => Some(files),
        _ => None,
    });
    if let Some(files) = files {
        text.push_str("\n## Changed so far, in its own copy\n\n");
        for file in files {
            let path = printable(&file.path);
            let _ = writeln!(text, "- `{path}` +{} -{}", file.added, file.removed);
        }
    }
    text.push_str("\n## Steps\n\n");
    for event in &events {
        if let EventKind::ToolResult { tool, outcome, .. } = &event.kind {
            let how = format!("{outcome:?}").to_lowercase();
            let _ = writeln!(text, "- {} ({how})", printable(tool));
        }
    }
    Ok(text)
}
