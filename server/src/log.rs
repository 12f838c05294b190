//! The log: a file in the state directory, and the important lines to the editor as well.
//!
//! Holds: stdout is never written to; it carries the protocol. A log that cannot be written does
//! not stop the server. No code, prompt or key is logged at `info` or above.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};

use crate::config::{self, LogLevel};

/// A log file that is larger is moved aside when the server starts.
const ROTATE_AT: u64 = 8 << 20;
/// Lines for the editor that may wait; more are dropped.
const TO_EDITOR: usize = 256;

/// A line for the editor's log.
#[derive(Debug)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// The handle by which settings change the log while it is written.
#[derive(Debug, Clone)]
pub struct Log {
    level: Handle<LevelFilter, Registry>,
    file: Arc<Mutex<Output>>,
}

#[derive(Debug, Default)]
struct Output {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Log {
    /// Starts logging for this process. Returns the lines that are meant for the editor.
    pub fn start() -> (Self, mpsc::Receiver<Line>) {
        let (filter, level) = reload::Layer::new(LevelFilter::INFO);
        let file = Arc::new(Mutex::new(Output::default()));
        let to_file = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_target(false)
            .with_writer(Writer(Arc::clone(&file)));
        let (sender, lines) = mpsc::channel(TO_EDITOR);
        // What the library for MCP logs holds what servers write.
        let ours = filter_fn(|event| !event.target().starts_with("rmcp"));
        let registry = Registry::default()
            .with(filter)
            .with(ours)
            .with(to_file)
            .with(ToEditor(sender));
        // Only the first call of a process can succeed; tests in one process share the first.
        let _ = tracing::subscriber::set_global_default(registry);
        (Self { level, file }, lines)
    }

    /// Puts settings in force; without a file of their own the log is kept in the folder `state`. A
    /// file that cannot be opened is said so in the editor.
    pub fn configure(&self, settings: &config::Log, state: Option<&Path>) {
        let own = settings.file.clone();
        let path = own.or_else(|| state.map(|folder| folder.join("pairwright.log")));
        let filter = match settings.level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let _ = self.level.reload(filter);
        let mut output = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if output.path == path {
            return;
        }
        let (file, problem) = match path.as_deref().map(open).transpose() {
            Ok(file) => (file, None),
            Err(why) => (None, Some(why)),
        };
        *output = Output {
            path: path.clone(),
            file,
        };
        drop(output);
        if let (Some(why), Some(path)) = (problem, path) {
            let path = path.display();
            tracing::warn!(
                "The log file {path} cannot be written ({why}); logging to the editor only."
            );
        }
    }

    /// The file that is written, if any.
    pub fn file(&self) -> Option<PathBuf> {
        let output = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        output.file.as_ref().and(output.path.clone())
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > ROTATE_AT) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

struct Writer(Arc<Mutex<Output>>);

struct Locked(Arc<Mutex<Output>>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Locked;

    fn make_writer(&'a self) -> Locked {
        Locked(Arc::clone(&self.0))
    }
}

impl Write for Locked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut output.file {
            // A full disk loses log lines, nothing else.
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct ToEditor(mpsc::Sender<Line>);

impl<S: Subscriber> Layer<S> for ToEditor {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        // The libraries below have their say in the file alone.
        if level > Level::INFO || !event.metadata().target().starts_with("pairwright") {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let _ = self.0.try_send(Line {
            level,
            text: text.message + &text.fields,
        });
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
