//! The client against the service of this machine: real sandboxes, commands and files.

// `cfg(test)` always holds here; clippy takes it as the sign of test code.
#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod clones;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod commands;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod copied;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod egress;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod faulty;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod gvisor;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod lifetimes;
#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "../../tests/support/machines.rs"]
mod machines;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod peer;
#[cfg(test)]
mod properties;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod red_team;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod returned;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod world;
