//! Ports for tests that have to say one, for the tests of all components, which include this file.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// A port that is free, for programs that cannot say which one they got, and for those that have it again after a restart. It lies below those
/// that the system gives to connections, so that none of them takes it in between.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("not poisoned");
    loop {
        let port = fastrand::u16(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
