//! What machines are made from, kept for the next one: images, templates, and clones that wait.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::OnceCell;

use super::faults::{Fault, Faults, GIVEN_UP, Next};
use super::image::Image;
use super::monitor::{Monitor, Why};
use super::template::{self, NoTemplate, Template};
use super::view::Images;
use super::warm::Warm;
use super::{Parts, Shape, kept};
use crate::service::cgroup::Groups;
use crate::service::key::random_hex;
use crate::service::sandbox::LaunchError;
use crate::service::{Limits, Options};
use crate::tier::Tier;

/// Of a service.
#[derive(Default)]
pub(in crate::service) struct Stock {
    pub(super) images: Images,
    warm: Warm,
    templates: Mutex<HashMap<Key, Held>>,
}

/// What is known of the templates of a key, of which there is one at a time.
#[derive(Default)]
struct Held {
    slot: Slot,
    /// Those that were thrown away before it.
    generation: u64,
    faults: Faults,
    given_up: Option<Instant>,
}

/// A template, or why there is none; the first to ask makes it.
type Slot = Arc<OnceCell<Result<Arc<Template>, Why>>>;

/// Tells templates apart: whatever is another in a machine that has booted, is another key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) String);

/// A file, as far as it can be told apart without reading it.
#[derive(Debug, Serialize)]
struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Known {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Key {
    /// Lists files, so it is not for a thread that must not wait.
    pub(super) fn of(options: &Options, parts: &Parts, system: &Image) -> Self {
        #[derive(Serialize)]
        struct All<'a> {
            version: &'a str,
            shape: Shape,
            agent: Option<Known>,
            monitor: Option<Known>,
            kernel: Option<Known>,
            modules: Vec<Option<Known>>,
            system: String,
            /// With KVM a machine has this processor's abilities.
            processor: Option<String>,
        }
        let modules = parts.kernel.modules.iter();
        let all = All {
            version: concat!(env!("CARGO_PKG_VERSION"), " 2"),
            shape: parts.shape,
            agent: Known::of(&options.agent.program),
            monitor: Known::of(&parts.monitor),
            kernel: Known::of(&parts.kernel.image),
            modules: modules.map(|path| Known::of(path)).collect(),
            system: system.digest().to_hex().to_string(),
            processor: (parts.shape.tier == Tier::Vm).then(processor),
        };
        let text = serde_json::to_vec(&all).unwrap_or_default();
        Self(blake3::hash(&text).to_hex().to_string())
    }
}

/// What the kernel says of the first processor, but for how fast it is just now.
fn processor() -> String {
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = all.lines().take_while(|line| !line.is_empty());
    let lasting = first.filter(|line| {
        [
            "vendor_id",
            "cpu family",
            "model",
            "stepping",
            "microcode",
            "flags",
        ]
        .iter()
        .any(|name| line.starts_with(name))
    });
    lasting.collect::<Vec<_>>().join("\n")
}

/// A machine that went on from a template and stands still, and its groups.
pub(super) struct Copied {
    pub(super) monitor: Monitor,
    pub(super) groups: Groups,
    /// Of its template.
    pub(super) generation: u64,
    /// Whether it had gone on before it was asked for.
    pub(super) has_waited: bool,
}

/// A clone of a template, or what came in place of one.
pub(super) type Cloned<T> = Result<T, (u64, Fault)>;

impl Copied {
    async fn end(self) {
        self.monitor.end().await;
        self.groups.remove().await;
    }
}

/// What a clone is made of.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) options: Options,
    pub(super) parts: Parts,
    pub(super) limits: Limits,
    pub(super) key: Key,
    pub(super) system: Arc<Image>,
}

impl Stock {
    fn templates(&self) -> MutexGuard<'_, HashMap<Key, Held>> {
        self.templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a clone that is ready, or makes one; and sees to those that come next.
    pub(super) async fn take(
        self: &Arc<Self>,
        wanted: &Wanted,
    ) -> Result<Cloned<Copied>, NoTemplate> {
        let taken = match self.warm.take(&wanted.key) {
            Some(ready) => Ok(Ok(ready)),
            None => self.make(wanted).await,
        };
        if matches!(taken, Ok(Ok(_))) && self.warm.begin(&wanted.key, wanted.options.ready) {
            tokio::spawn(hold_ready(Arc::downgrade(self), wanted.clone()));
        }
        taken
    }

    /// Ends all that are ready.
    pub(in crate::service) async fn close(&self) {
        for clone in self.warm.close() {
            clone.end().await;
        }
    }

    /// Makes a clone, and the template before where there is none yet.
    async fn make(&self, wanted: &Wanted) -> Result<Cloned<Copied>, NoTemplate> {
        let (generation, template) = self.template(wanted).await?;
        let groups = groups(&wanted.limits).map_err(NoTemplate::Launch)?;
        let system = Arc::clone(&wanted.system);
        let cloned = template.clone_it(&wanted.options, &wanted.parts, &groups, system);
        match cloned.await {
            Ok(Ok(monitor)) => Ok(Ok(Copied {
                monitor,
                groups,
                generation,
                has_waited: false,
            })),
            Ok(Err(fault)) => {
                groups.remove().await;
                Ok(Err((generation, fault)))
            }
            Err(why) => {
                groups.remove().await;
                Err(why)
            }
        }
    }

    async fn template(&self, wanted: &Wanted) -> Result<(u64, Arc<Template>), NoTemplate> {
        let Wanted {
            options,
            parts,
            limits,
            key,
            system,
        } = wanted;
        let (generation, slot) = {
            let mut templates = self.templates();
            let held = templates.entry(key.clone()).or_default();
            if held.given_up.is_some_and(|at| at.elapsed() >= GIVEN_UP) {
                *held = Held {
                    generation: held.generation + 1,
                    ..Held::default()
                };
            }
            (held.generation, Arc::clone(&held.slot))
        };
        let made = slot.get_or_try_init(|| async {
            if generation > 0 {
                // What is kept is what nothing went on from.
                discard(options, key).await;
            } else if let Some(loaded) = load(options, key).await {
                return Ok(Ok(Arc::new(loaded)));
            }
            let groups = groups(limits)?;
            let system = Arc::clone(system);
            let made = Template::make(options, parts, limits, &groups, system).await;
            groups.remove().await;
            match made {
                Ok(made) => {
                    let made = Arc::new(made);
                    keep(options, key, &made).await;
                    Ok(Ok(made))
                }
                Err(NoTemplate::Copy(why)) => Ok(Err(why)),
                Err(NoTemplate::Launch(why)) => Err(why),
            }
        });
        let made = made.await.map_err(NoTemplate::Launch)?;
        if made.is_err() {
            self.give_up(key, generation);
        }
        let made = made.clone().map_err(NoTemplate::Copy)?;
        Ok((generation, made))
    }

    /// Notes since when there is no template.
    fn give_up(&self, key: &Key, generation: u64) {
        if let Some(held) = self.templates().get_mut(key)
            && held.generation == generation
        {
            held.given_up.get_or_insert_with(Instant::now);
        }
    }

    /// Notes that a clone of the template of this generation went on.
    pub(super) fn went_on(&self, key: &Key, generation: u64) {
        if let Some(held) = self.templates().get_mut(key)
            && held.generation == generation
        {
            held.faults = Faults::default();
        }
    }

    /// Says what to do about a clone that did not go on, and throws its template away where that
    /// is of no use.
    pub(super) async fn judge(&self, wanted: &Wanted, generation: u64, fault: &Fault) -> Next {
        let Wanted { options, key, .. } = wanted;
        let next = {
            let mut templates = self.templates();
            let held = templates.entry(key.clone()).or_default();
            if held.generation != generation {
                return Next::Again;
            }
            let next = held.faults.judge(fault);
            match next {
                Next::Again | Next::Boot => return next,
                Next::Remake => held.slot = Slot::default(),
                Next::GiveUp => {
                    let none = Err(fault.clone().why());
                    held.slot = Arc::new(OnceCell::new_with(Some(none)));
                    held.given_up = Some(Instant::now());
                }
            }
            held.generation += 1;
            next
        };
        self.close().await;
        if next == Next::GiveUp {
            discard(options, key).await;
        }
        next
    }
}

/// Makes as many clones as are to wait, and ends them when nobody comes.
async fn hold_ready(stock: Weak<Stock>, wanted: Wanted) {
    loop {
        let Some(stock) = stock.upgrade() else { return };
        let began = Instant::now();
        let made = match stock.make(&wanted).await {
            Ok(Ok(made)) => Some(Copied {
                has_waited: true,
                ..made
            }),
            Ok(Err((generation, fault))) => {
                stock.judge(&wanted, generation, &fault).await;
                None
            }
            Err(_) => None,
        };
        let is_made = made.is_some();
        stock.warm.put(&wanted.key, made, began.elapsed());
        if !is_made || !stock.warm.begin(&wanted.key, wanted.options.ready) {
            break;
        }
    }
    if !stock.upgrade().is_some_and(|stock| stock.warm.watch()) {
        return;
    }
    loop {
        let Some(looked) = stock.upgrade().map(|stock| stock.warm.tidy()) else {
            return;
        };
        match looked {
            Ok(next) => tokio::time::sleep_until(next.into()).await,
            Err(unwanted) => {
                for clone in unwanted {
                    clone.end().await;
                }
                return;
            }
        }
    }
}

pub(super) fn groups(limits: &Limits) -> Result<Groups, LaunchError> {
    let id = random_hex().map_err(LaunchError::Start)?;
    Ok(template::groups(&id, limits))
}

async fn load(options: &Options, key: &Key) -> Option<Template> {
    let (state, own) = (options.state.clone()?, key.clone());
    let loaded = tokio::task::spawn_blocking(move || kept::load(&state, &own));
    let loaded = loaded.await.ok().flatten()?;
    template::seal(&loaded.memory).await.ok()?;
    Some(loaded)
}

/// One that cannot be kept is made again by the next service.
async fn keep(options: &Options, key: &Key, template: &Arc<Template>) {
    if let Some(state) = options.state.clone() {
        let (key, template) = (key.clone(), Arc::clone(template));
        let kept = tokio::task::spawn_blocking(move || kept::keep(&state, &key, &template));
        let _ = kept.await;
    }
}

async fn discard(options: &Options, key: &Key) {
    if let Some(state) = options.state.clone() {
        let key = key.clone();
        let discarded = tokio::task::spawn_blocking(move || kept::discard(&state, &key));
        let _ = discarded.await;
    }
}
