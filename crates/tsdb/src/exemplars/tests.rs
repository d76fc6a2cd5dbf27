use model::{Cancel, Matcher};
use proptest::prelude::*;

use super::*;
use crate::disk::simulated::Simulated;
use crate::retention::RetentionRule;

fn series(name: &str) -> Labels {
    Labels::new(&[("__name__", name)]).expect("valid")
}

fn exemplar(t: i64, v: f64, trace: &str) -> Exemplar {
    Exemplar::new(t, v, &[("trace", trace)]).expect("valid")
}

fn request(range: TimeRange) -> ExemplarsRequest {
    let any = vec![Matcher::new(model::MatchOp::NotEqual, "__name__", "").expect("valid")];
    ExemplarsRequest { matcher_sets: vec![any], range, exemplars_max: 100, cancel: Cancel::default() }
}

const EVERYTHING: Floors<'static> = Floors::nothing_expired();

/// What is found, as series and times.
fn found(all: &Exemplars, request: &ExemplarsRequest) -> Vec<(String, Vec<i64>)> {
    let found = all.select(request, &EVERYTHING).expect("answers");
    found.into_iter().map(|one| (one.series.to_string(), one.exemplars.iter().map(|e| e.t).collect())).collect()
}

fn names(found: &[(&str, &[i64])]) -> Vec<(String, Vec<i64>)> {
    found.iter().map(|(name, times)| ((*name).to_owned(), times.to_vec())).collect()
}

#[test]
fn exemplars_are_found_by_series_and_time_in_order_and_once() {
    let mut all = Exemplars::new(100);
    all.add(series("b").as_ref(), &[exemplar(5, 1.0, "x"), exemplar(3, 1.0, "y"), exemplar(5, 1.0, "x")]);
    all.add(series("a").as_ref(), &[exemplar(4, 2.0, "x")]);
    all.add(series("b").as_ref(), &[exemplar(5, 1.0, "x"), exemplar(5, 0.5, "x"), exemplar(5, -0.0, "")]);
    assert_eq!((all.len(), all.series()), (5, 2));
    assert_eq!(found(&all, &request(TimeRange::ALL)), names(&[("a", &[4]), ("b", &[3, 5, 5, 5])]));
    assert_eq!(found(&all, &request(TimeRange { start_ms: 4, end_ms: 4 })), names(&[("a", &[4])]));
    assert_eq!(found(&all, &request(TimeRange { start_ms: 5, end_ms: 5 })), names(&[("b", &[5, 5, 5])]));
    let of = |names: &[&str]| {
        let sets = names.iter().map(|name| vec![Matcher::equal("__name__", *name)]);
        found(&all, &ExemplarsRequest { matcher_sets: sets.collect(), ..request(TimeRange::ALL) })
    };
    assert_eq!(of(&["b", "x"]), names(&[("b", &[3, 5, 5, 5])]));
    assert_eq!(of(&["a", "a"]), names(&[("a", &[4])]), "each once, whatever the number of selectors");
    assert_eq!(of(&[]), []);
    let few = ExemplarsRequest { exemplars_max: 4, ..request(TimeRange::ALL) };
    let error = all.select(&few, &EVERYTHING).expect_err("too many");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (model::Kind::Invalid, "the query finds more than 4 exemplars")
    );
    let cancelled = request(TimeRange::ALL);
    cancelled.cancel.cancel();
    assert!(matches!(all.select(&cancelled, &EVERYTHING), Err(Error::Cancelled)));
}

#[test]
fn the_oldest_of_all_go_where_there_are_too_many() {
    let mut all = Exemplars::new(3);
    for t in [5, 3, 4, 6, 1] {
        all.add(series(if t == 3 { "a" } else { "b" }).as_ref(), &[exemplar(t, 1.0, "x")]);
    }
    assert_eq!(found(&all, &request(TimeRange::ALL)), names(&[("b", &[4, 5, 6])]));
    assert_eq!((all.len(), all.series(), all.evicted()), (3, 1, 2));
    let mut none = Exemplars::new(0);
    none.add(series("a").as_ref(), &[exemplar(1, 1.0, "x")]);
    assert_eq!((none.len(), none.evicted()), (0, 0));
}

#[test]
fn each_series_expires_at_its_own_age() {
    let rules = [RetentionRule { matchers: vec![Matcher::equal("__name__", "long")], age_ms: Some(100) }];
    let floors = Floors::new(Some(1000), Some(10), &rules);
    let mut all = Exemplars::new(100);
    for name in ["long", "short"] {
        let own = [899, 900, 989, 990].map(|t| exemplar(t, 1.0, "x"));
        all.add(series(name).as_ref(), &own);
    }
    let seen = |all: &Exemplars| {
        let found = all.select(&request(TimeRange::ALL), &floors).expect("answers");
        found.iter().map(|one| one.exemplars.len()).collect::<Vec<_>>()
    };
    assert_eq!(seen(&all), [3, 1], "in no answer from their time on");
    let before = all.version();
    all.expire(&floors);
    assert_eq!((seen(&all), all.len()), (vec![3, 1], 4));
    assert!(all.version() > before);
    let before = all.version();
    all.expire(&floors);
    assert_eq!(all.version(), before, "nothing changed");
}

#[test]
fn a_deletion_takes_those_of_its_series_and_time() {
    let mut all = Exemplars::new(100);
    for name in ["a", "b"] {
        all.add(series(name).as_ref(), &[1, 2, 3, 4].map(|t| exemplar(t, 1.0, "x")));
    }
    let range = TimeRange { start_ms: 2, end_ms: 3 };
    let gone = all.touched(&Delete { before: 0, range, matchers: vec![Matcher::equal("__name__", "a")] });
    assert_eq!(gone.len(), 2);
    all.remove(&gone);
    all.remove(&gone);
    assert_eq!(found(&all, &request(TimeRange::ALL)), names(&[("a", &[1, 4]), ("b", &[1, 2, 3, 4])]));
}

fn example() -> Exemplars {
    let mut all = Exemplars::new(100);
    all.add(series("up").as_ref(), &[exemplar(1000, 0.5, "4bf9"), Exemplar::new(990, -0.0, &[]).expect("valid")]);
    all.add(series("a").as_ref(), &[exemplar(-1, f64::INFINITY, "é")]);
    all
}

#[test]
fn the_file_is_golden() {
    let hex: String = file::encode(example().iter()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}
const GOLDEN: &str = "7765697265786d31020b085f5f6e616d655f5f01610101000000000000f07f0905747261636502c3a90c085f5f6e616d655f5f02757002bc0f\
00000000000000800014000000000000e03f0b057472616365043462663987ce5300";

/// Reads bytes as a file.
fn read(bytes: &[u8]) -> Result<(u64, file::BySeries), Error> {
    let disk = Simulated::new(1);
    file::write(&disk, "7.exemplars", bytes).expect("written");
    file::read(&disk, "7.exemplars")
}

#[test]
fn a_file_reads_back_and_every_flipped_or_missing_byte_is_seen() {
    let bytes = file::encode(example().iter());
    let (size, all) = read(&bytes).expect("reads");
    assert_eq!(size, bytes.len() as u64);
    let mut again = Exemplars::new(100);
    all.iter().for_each(|(series, own)| again.add(series.as_ref(), own));
    assert_eq!(again.all, example().all);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let error = read(&damaged).expect_err("damaged");
        assert!(matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(read(&file::encode([].iter())).expect("reads").1.len(), 0);
}

#[test]
fn what_is_wrong_under_a_right_checksum_is_told() {
    let check = |content: &[u8], reason: &str| {
        let mut bytes = [b"weirexm1", content].concat();
        let checksum = crc32c::crc32c(&bytes).to_le_bytes();
        bytes.extend_from_slice(&checksum);
        let error = read(&bytes).expect_err(reason).to_string();
        assert!(error.ends_with(reason), "{error}, not {reason}");
    };
    let a = [4, 1, b'a', 1, b'b'];
    let one = [&a[..], &[1, 0], &[0; 8], &[0]].concat();
    check(&[], "ends too early");
    check(&[1], "ends too early");
    check(&[1, 0], "the labels of a series are invalid");
    check(&[1, 1, 0xff], "labels are not UTF-8");
    check(&[&[1], &a[..], &[0]].concat(), "the exemplars of a series do not ascend");
    check(&[&[2], &one[..], &one].concat(), "the series do not ascend");
    check(&[&[1], &one[..], &[0]].concat(), "there is more than the exemplars");
    let twice = [&a[..], &[2], &[0; 10], &[0; 10]].concat();
    check(&[&[1], &twice[..]].concat(), "the exemplars of a series do not ascend");
}

proptest! {
    #[test]
    fn which_stay_does_not_depend_on_the_order_in_which_they_came(
        mut given in prop::collection::vec((0usize..3, 0i64..20, 0u8..3), 0..40), seed: u64,
    ) {
        let fill = |given: &[(usize, i64, u8)]| {
            let mut all = Exemplars::new(7);
            for (of, t, v) in given {
                all.add(series(["a", "b", "c"][*of]).as_ref(), &[exemplar(*t, f64::from(*v), "x")]);
            }
            all.all
        };
        let first = fill(&given);
        fastrand::Rng::with_seed(seed).shuffle(&mut given);
        let again = [&given[..], &given].concat();
        prop_assert_eq!(fill(&again), first);
    }
}
