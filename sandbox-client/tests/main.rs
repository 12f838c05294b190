//! The client against the service of this machine: real sandboxes, commands and files.

// `cfg(test)` always holds here; clippy takes it as the sign of test code.
#[cfg(all(test, target_os = "linux"))]
mod commands;
#[cfg(all(test, target_os = "linux"))]
mod faulty;
#[cfg(all(test, target_os = "linux"))]
mod lifetimes;
#[cfg(test)]
mod properties;
#[cfg(all(test, target_os = "linux"))]
mod red_team;
#[cfg(all(test, target_os = "linux"))]
mod returned;
#[cfg(all(test, target_os = "linux"))]
mod world;
