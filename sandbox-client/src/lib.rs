//! Runs a command somewhere safe and returns its output and the files it changed.
