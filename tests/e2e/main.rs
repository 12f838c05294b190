//! End to end: real programs at every wire.

// `cfg(test)` always holds here; clippy takes it as the sign of test code.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod agent;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod chat;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod completions_endpoint;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod ghost_text;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod index;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../support/machines.rs"]
mod machines;
#[cfg(test)]
mod model_client;
#[cfg(test)]
mod model_faults;
#[cfg(test)]
mod next_edit;
#[cfg(test)]
mod protocol;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod sandboxd;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod world;
