use super::*;

#[test]
fn pauses_have_full_jitter_and_a_bound() {
    let pace = Pace::DEFAULT;
    assert_eq!(pace.pause(0, 1.0), Duration::from_secs(1));
    assert_eq!(pace.pause(3, 0.5), Duration::from_secs(4));
    assert_eq!(pace.pause(500, 1.0), Duration::from_secs(300));
    assert_eq!(pace.pause(9, 0.0), Duration::ZERO);
}
