//! Threads that are to stand back where there is more to do than processors.

/// Gives way to the other threads of this process: `nice` as nice(1) has it, from 1 to 19. On Linux only, where a thread has a priority of its own;
/// elsewhere, and where it is refused, the thread stays as it is, which costs time and nothing else.
pub fn give_way(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, nice, "the priority of a thread is not lowered");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_alone() {
        let own = || rustix::process::getpriority_process(None).expect("known");
        let before = own();
        let lowered = std::thread::spawn(move || {
            give_way(before + 3);
            own()
        });
        assert_eq!((lowered.join().expect("ends"), own()), (before + 3, before));
    }
}
