//! `pairwright sandboxd`: the sandbox service by itself, for other programs and E2B's own clients.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sandbox_client::service::{Certificate, Key, Service, Workspaces};
use tokio::signal::unix::{SignalKind, signal};

use super::sandbox::{MachineFiles, TierName};

/// The longest key that is read.
const KEY_BYTES: u64 = 256;
/// The shortest that is taken.
const SHORTEST: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct Sandboxd {
    /// Address and port, or the path of a socket; one that other machines reach needs a certificate
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
    /// Certificate to show callers, in PEM form, with those between it and an authority
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File with the key that callers show as X-API-Key; made with a new key when it is not there
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    #[command(flatten)]
    machines: MachineFiles,
    /// Virtual machines that may wait for someone at one time, so that nobody waits for them. How
    /// many do follows from how often one is asked for
    #[arg(long, value_name = "N", default_value_t = 1)]
    ready: usize,
    /// The weakest sandbox that callers get, also who finds less acceptable
    #[arg(long, value_name = "TIER", default_value = "namespace")]
    min_isolation: TierName,
    /// Let callers see folders of this machine that this user can read
    #[arg(long)]
    share_folders: bool,
}

impl Sandboxd {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let key = key(&self.key_file)?;
        let workspaces = match self.share_folders {
            true => Workspaces::OfThisMachine,
            false => Workspaces::None,
        };
        let mut options = super::sandbox::options(workspaces, key);
        options.machines = self.machines.into();
        options.ready = self.ready;
        options.min_isolation = self.min_isolation.tier().unwrap_or(options.min_isolation);
        let certificate = self.tls_certificate.zip(self.tls_key);
        let certificate = certificate.map(|(chain, key)| Certificate { chain, key });
        let runtime = super::runtime()?;
        runtime.block_on(async {
            let at = |address| format!("{address} could not be listened on");
            let service = match (self.listen.parse::<SocketAddr>(), certificate) {
                (Ok(address), Some(certificate)) => {
                    Service::start_tls(address, &certificate, options)
                        .await
                        .with_context(|| at(address))?
                }
                (Ok(address), None) if !address.ip().is_loopback() => bail!(
                    "{address} can be reached by others: give a certificate (--tls-certificate and \
                     --tls-key), or listen on 127.0.0.1 or a socket, behind something that has one"
                ),
                (Ok(address), None) => Service::start_tcp(address, options)
                    .await
                    .with_context(|| at(address))?,
                (Err(_), Some(_)) => bail!("a certificate is for addresses with a port"),
                (Err(_), None) if self.listen.contains('/') => {
                    Service::start_unix(PathBuf::from(&self.listen), options)
                        .with_context(|| format!("{} could not be made", self.listen))?
                }
                (Err(_), None) => bail!(
                    "{} is neither an address with a port nor a path",
                    self.listen
                ),
            };
            let mut terminated = signal(SignalKind::terminate())?;
            writeln!(
                anstream::stdout(),
                "listening on {}",
                service.endpoint().address
            )?;
            tokio::select! {
                _ = terminated.recv() => {}
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            service.stop().await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Reads the key, or makes one that only this user can read.
fn key(path: &Path) -> anyhow::Result<Key> {
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    if let Ok(mut file) = made {
        let key = Key::generate().context("no key could be made")?;
        writeln!(file, "{}", key.reveal())
            .with_context(|| format!("{} could not be written", path.display()))?;
        return Ok(key);
    }
    let about =
        fs::metadata(path).with_context(|| format!("{} could not be read", path.display()))?;
    if about.permissions().mode() & 0o077 != 0 {
        bail!("{} can be read by others: make it 0600", path.display());
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(KEY_BYTES).read_to_string(&mut text))
        .with_context(|| format!("{} could not be read", path.display()))?;
    let text = text.trim();
    if text.len() < SHORTEST {
        bail!(
            "{} has no key of {SHORTEST} characters or more",
            path.display()
        );
    }
    Ok(Key::from_text(text))
}
