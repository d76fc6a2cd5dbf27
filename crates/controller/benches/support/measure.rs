//! What the benches read of processes.

use std::process::Child;

/// A field of what Linux says of a process' memory, such as `VmHWM`, in MiB.
pub(crate) fn memory(child: &Child, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("Linux");
    let line = status.lines().find(|l| l.starts_with(field)).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

/// Seconds of CPU that a process has used.
pub(crate) fn cpu(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("Linux");
    // In hundredths.
    stat.split_whitespace().skip(13).take(2).map(|n| n.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// The sum of a metric's series.
pub(crate) async fn metric(url: &str, name: &str) -> f64 {
    let page = reqwest::get(format!("{url}/metrics")).await.expect("answered").text().await.expect("text");
    let own = |l: &&str| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines().filter(own).map(|l| l.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
}
