//! Ends this process when the editor that started it is gone without closing the pipe, as can
//! happen when another program keeps the pipe's end open.

/// Watches process `id`, without waking up until it ends.
///
/// A process that cannot be seen (an editor outside this container, say) is not watched: the
/// closed pipe tells as well.
#[cfg(target_os = "linux")]
pub(super) fn exit_with(id: i32) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let Some(parent) = Pid::from_raw(id) else {
        return;
    };
    let Ok(handle) = pidfd_open(parent, PidfdFlags::empty()) else {
        tracing::debug!(id, "the editor's process cannot be watched");
        return;
    };
    let watch = move || loop {
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {
            Ok(_) => {
                tracing::info!("the editor is gone; ending");
                std::process::exit(0);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => {
                tracing::debug!(%why, "the editor's process cannot be watched");
                return;
            }
        }
    };
    let _ = std::thread::Builder::new()
        .name("parent-watch".into())
        .spawn(watch);
}

/// Elsewhere the closed pipe alone tells.
#[cfg(not(target_os = "linux"))]
pub(super) fn exit_with(_: i32) {}
