//! Counts the steps of reading a text, for the test that they are few: characters and tokens that are looked at, nodes that are checked. Outside of tests
//! nothing is counted.

#[cfg(test)]
std::thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts steps.
#[cfg(test)]
pub(crate) fn add(steps: usize) {
    STEPS.set(STEPS.get() + steps);
}

#[cfg(not(test))]
pub(crate) fn add(_: usize) {}

/// The steps of this thread since it was asked last.
#[cfg(test)]
pub(crate) fn take() -> usize {
    STEPS.take()
}
