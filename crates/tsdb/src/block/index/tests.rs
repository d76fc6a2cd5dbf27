use std::collections::BTreeMap;
use std::io::Write as _;

use model::{MatchOp, Matcher, TimeRange};

use super::*;
use crate::block::Last;
use crate::disk::Disk;
use crate::disk::simulated::Simulated;
use crate::postings::{add_counts, each_value, select};

/// An index of series with one chunk each, at the front of a file of its own.
struct World {
    disk: Simulated,
    index: Index,
    series: Vec<Labels>,
}

impl World {
    fn new(mut series: Vec<Labels>, cache_bytes: usize) -> World {
        series.sort_by(|a, b| a.canonical().cmp(b.canonical()));
        let (mut builder, disk) = (Builder::new().expect("begins"), Simulated::new(1));
        for (labels, n) in series.iter().zip(0..) {
            builder.push(labels.as_ref(), &chunks(n)).expect("adds");
        }
        let mut bytes = Vec::new();
        let mut write = |page: &[u8]| {
            bytes.extend_from_slice(page);
            Ok(())
        };
        let top = builder.finish(0, &mut write).expect("ends");
        disk.create("i").and_then(|mut out| out.write_all(&bytes)).expect("written");
        let file = Arc::new(File::open(&disk, "i").expect("opens"));
        let index = Index::open(&file, &Cache::new(cache_bytes), 0, &top).expect("opens");
        World { disk, index, series }
    }

    /// The series that meet all, by trying each.
    fn tried(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let meets = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        self.series.iter().zip(0..).filter(|(labels, _)| meets(labels)).map(|(_, id)| id).collect()
    }

    fn check(&self) {
        assert_eq!(self.index.series(), self.series.len());
        for mut memo in [Memo::default(), Memo::ahead()] {
            for (id, labels) in (0..).zip(&self.series) {
                let entry = self.index.entry(id, &mut memo).expect("reads");
                assert_eq!((&entry.labels, entry.chunks), (labels, chunks(id)));
            }
        }
        let patterns = ["a.*", "x-.*-.*7", ".+", "", "x-1|x-2|y", "[^x]*", "x-12.*"];
        let mut matchers: Vec<Matcher> = Vec::new();
        for name in ["name", "some", "pod", "absent"] {
            matchers.extend(["", "a", "x-17", "b0"].map(|value| Matcher::equal(name, value)));
            matchers.extend(["", "a"].map(|value| Matcher::new(MatchOp::NotEqual, name, value).expect("valid")));
            for op in [MatchOp::Regex, MatchOp::NotRegex] {
                matchers.extend(patterns.map(|pattern| Matcher::new(op, name, pattern).expect("valid")));
            }
        }
        for (at, matcher) in matchers.iter().enumerate() {
            let both = [matcher.clone(), matchers[at * 7 % matchers.len()].clone()];
            for set in [&both[..1], &both] {
                let found = select(&self.index, set).expect("reads");
                assert_eq!(found, self.tried(set), "{set:?}");
            }
            self.check_values(&both[0]);
        }
    }

    fn check_values(&self, matcher: &Matcher) {
        let ids = self.tried(std::slice::from_ref(matcher));
        for name in ["name", "some", "pod", "absent"] {
            let mut expect = BTreeMap::new();
            for id in &ids {
                *expect.entry(self.series[id as usize].get(name).unwrap_or("").to_owned()).or_insert(0) += 1;
            }
            let mut counts = hashbrown::HashMap::new();
            add_counts(&self.index, Some(name), &ids, &mut counts).expect("reads");
            assert_eq!(counts.into_iter().collect::<BTreeMap<_, _>>(), expect, "{matcher} by {name}");
            let mut values = Vec::new();
            let set = [vec![matcher.clone()]];
            let mut see = |value: &str| values.push(value.to_owned());
            each_value(&self.index, name, &set, &mut |_| true, &mut see).expect("reads");
            let expect: Vec<String> = expect.into_keys().filter(|value| !value.is_empty()).collect();
            assert_eq!(values, expect, "{name} of {matcher}");
            values.clear();
            let mut see = |value: &str| values.push(value.to_owned());
            each_value(&self.index, name, &set, &mut |value| value.ends_with('7'), &mut see).expect("reads");
            let expect: Vec<String> = expect.into_iter().filter(|value| value.ends_with('7')).collect();
            assert_eq!(values, expect, "those of {name} of {matcher} that are wanted");
        }
    }
}

/// Those of a series, which lie behind those of the one before.
fn chunks(n: u32) -> Vec<ChunkRef> {
    let (count, n) = (1 + u64::from(n.is_multiple_of(3)), u64::from(n));
    let chunk = |i: u64| ChunkRef {
        at: 8 + n * 300 + i * 110,
        bytes: 100 + (n % 7) as u32,
        range: TimeRange { start_ms: (n * 1000 + i * 500) as i64, end_ms: (n * 1000 + i * 500 + n % 400) as i64 },
        samples: if n % 50 == 49 { 1000 } else { 1 + (n % 50) as u32 },
        last: if n.is_multiple_of(11) { Last::StaleFloat } else { Last::Float },
        times: n.is_multiple_of(5).then_some(Place { at: n % 50 * 13, bytes: 13 }),
        facts: crate::chunk::Facts::of(&[n as f64, 4.0]).filter(|_| n % 50 == 49),
    };
    (0..count).map(chunk).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).expect("valid")
}

#[test]
fn what_was_pushed_is_found_and_read() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = [1, 2, 40, GROUP, GROUP + 1, 3000, 5000, 300][seed as usize];
        let mut series = BTreeMap::new();
        while series.len() < count {
            let (pod, some) = (format!("x-{}", random.u32(..)), format!("b{}", random.u8(..30)));
            let mut pairs = vec![("name", ["a", "ab", "c"][random.usize(..3)])];
            pairs.extend(random.bool().then_some(("some", some.as_str())));
            pairs.extend((random.u8(..20) > 0).then_some(("pod", pod.as_str())));
            let labels = labels(&pairs);
            series.insert(labels.canonical().to_owned(), labels);
        }
        World::new(series.into_values().collect(), 1 << (10 + 2 * seed)).check();
    }
}

#[test]
fn values_that_are_long_or_begin_alike_are_told_apart() {
    let long = "x".repeat(5000);
    let series = (0..200).map(|n| labels(&[("name", "a"), ("pod", &format!("{long}{n}")), ("ä", &"ö".repeat(n + 1))]));
    World::new(series.collect(), 1 << 16).check();
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_of_whoever_needs_it_and_nobody_else() {
    let series = (0..2000).map(|n| labels(&[("name", "a"), ("pod", &format!("x-{n}"))])).collect();
    let world = World::new(series, 1 << 20);
    let place = world.index.name("pod").expect("there").pages[0].values;
    world.disk.flip("i", place.at as usize + 20);
    let of = |name: &str, value: &str| select(&world.index, &[Matcher::equal(name, value)]);
    assert_eq!(of("name", "a").expect("reads").len(), 2000);
    assert!(!world.index.file.is_damaged());
    let error = of("pod", "x-0").expect_err("damaged");
    assert!(matches!(error, Error::Corrupt { position, .. } if position == place.at), "{error}");
    assert!(world.index.file.is_damaged());
}

/// Label sets of which each is in some of so many blocks.
fn in_blocks(random: &mut fastrand::Rng, blocks: usize, count: usize) -> Vec<Vec<Labels>> {
    let mut out = vec![Vec::new(); blocks];
    let long = "y".repeat(70);
    for n in 0..count {
        let pod = format!("x-{}{}", random.u32(..300), if random.u8(..9) == 0 { long.as_str() } else { "" });
        let (number, own) = (n.to_string(), format!("only-{}", random.usize(..blocks)));
        let mut pairs = vec![("name", ["a", "ab", "c", "aaaaaa"][random.usize(..4)]), ("zzz", number.as_str())];
        pairs.extend((random.u8(..20) > 0).then_some(("pod", pod.as_str())));
        pairs.extend((random.u8(..4) == 0).then_some((own.as_str(), "1")));
        pairs.extend((random.u8(..4) == 0).then_some(("zz", "last")));
        let set = labels(&pairs);
        let mut is_there = false;
        for block in &mut out {
            if random.u8(..3) > 0 {
                block.push(set.clone());
                is_there = true;
            }
        }
        if !is_there {
            out[0].push(set);
        }
    }
    out
}

#[test]
fn series_of_several_blocks_are_in_one_order_in_which_each_has_one_place() {
    for (seed, count) in [0, 1, 5, 100, 3000, 5000].into_iter().enumerate() {
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let of = in_blocks(&mut random, 1 + seed % 5, count);
        let worlds: Vec<World> = of.into_iter().map(|series| World::new(series, 1 << 16)).collect();
        let indexes: Vec<&Index> = worlds.iter().map(|world| &world.index).collect();
        let claim = model::Claim::default();
        let order = Order::of(&indexes, &model::Cancel::default(), &mut claim.hold()).expect("reads");
        let all: std::collections::BTreeSet<&str> =
            worlds.iter().flat_map(|world| &world.series).map(Labels::canonical).collect();
        let numbers: BTreeMap<&str, u32> = all.into_iter().zip(0..).collect();
        for (world, places) in worlds.iter().zip(order.places()) {
            let expect: RoaringBitmap = world.series.iter().map(|labels| numbers[labels.canonical()]).collect();
            assert_eq!(places.widen(&world.index.all()), expect, "seed {seed}");
            let cancel = model::Cancel::default();
            cancel.cancel();
            let stopped = Order::of(&indexes, &cancel, &mut claim.hold());
            assert_eq!(stopped.is_err(), numbers.len() > 4096);
        }
    }
}

#[test]
fn an_order_takes_memory_of_who_asks_and_none_without() {
    let worlds = [0, 1].map(|n| {
        World::new((0..3000).map(|i| labels(&[("name", "a"), ("pod", &format!("x-{}", i + n))])).collect(), 1 << 20)
    });
    let indexes = worlds.each_ref().map(|world| &world.index);
    let of = |bytes_max| {
        let budget = model::Budget::new("queries", bytes_max);
        Order::of(&indexes, &model::Cancel::default(), &mut budget.claim().hold())
    };
    assert!(matches!(of(10_000), Err(Error::Memory(_))));
    let order = of(1 << 20).expect("fits");
    assert!(order.bytes() >= Order::bytes_min(2, 3000) && order.bytes() < 4000, "{}", order.bytes());
}
