//! Series like those of containers that come and go.

use model::Labels;

/// Eight labels, two of them of no other series.
pub(crate) fn labels(number: usize) -> Labels {
    let (pod, uid) =
        (format!("app-{}-{number:x}", number % 500), format!("{:032x}", number as u128 * 0x9e37_79b9_7f4a_7c15));
    let (namespace, node) = (format!("team-{}", number % 23), format!("host-{:05}", number % 360));
    let pairs = [
        ("__name__", "container_memory_working_set_bytes"),
        ("cluster", "eu-1"),
        ("container", "main"),
        ("job", "kubelet"),
        ("namespace", &namespace),
        ("node", &node),
        ("pod", &pod),
        ("uid", &uid),
    ];
    Labels::new(&pairs).expect("valid")
}
