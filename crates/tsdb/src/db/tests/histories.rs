//! Random operations and random faults against a map; see CONTRIBUTING.md for its variables.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{MatchOp, Sample, TimeRange};

use super::HOUR;
use super::world::{PARTITIONS, Points, SERIES, TIMES, World};
use crate::Error;
use crate::disk::simulated::{Fault, Loss, Simulated};
use crate::testing::Family;

/// Seeds of a run that is not told how many: some ten seconds.
const SEEDS: u64 = 2000;

/// Says which seed it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: WEIR_MODEL_SEED={} cargo test -p tsdb random_operations", self.0);
        }
    }
}

/// One history, all of which follows from its seed.
struct History {
    random: fastrand::Rng,
    world: World,
}

impl History {
    /// Returns how many merges were begun since it was quiet.
    fn run(seed: u64) -> u64 {
        let _told = Seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Simulated::new(random.u64(..));
        let mut history = History { world: World::new(disk).expect("opens"), random };
        for _ in 0..history.random.usize(5..50) {
            history.step();
        }
        history.world.disk.mend();
        history.world.disk.set_capacity(usize::MAX);
        history.restart();
        history.world.check_all().expect("reads");
        history.world.quiet_merges
    }

    fn step(&mut self) {
        let failures = self.world.disk.failures();
        let done = match self.random.u8(0..28) {
            0..=12 => {
                self.append();
                Ok(())
            }
            13..=15 => self.world.flush(),
            16 => self.world.compact(),
            17 => self.world.rest(self.random.i64(0..HOUR)).and_then(|()| self.world.compact()),
            18 => {
                self.world.now_ms += self.random.i64(0..3 * HOUR);
                self.world.expire()
            }
            19 => {
                self.restart();
                // Another disk, which counts its failures anew.
                return;
            }
            20..=22 => {
                self.plan_fault();
                Ok(())
            }
            23 => {
                let room = self.random.usize(..600);
                self.world.disk.set_capacity(self.world.disk.used() + room);
                Ok(())
            }
            24..=25 => {
                self.world.disk.set_capacity(usize::MAX);
                Ok(())
            }
            26..=27 => {
                let (matchers, range) = self.choose();
                self.world.delete(matchers, range)
            }
            _ => unreachable!("28 kinds of steps"),
        };
        let done = done.and_then(|()| if self.random.bool() { self.check() } else { Ok(()) });
        if let Err(error) = done {
            assert!(self.world.disk.failures() > failures, "{error}");
        }
        if self.world.disk.has_crashed() {
            self.restart();
        }
    }

    fn append(&mut self) {
        let partition = self.random.u32(..PARTITIONS);
        let mut record = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            let series =
                self.random.u64(..SERIES / u64::from(PARTITIONS)) * u64::from(PARTITIONS) + u64::from(partition);
            let base = self.random.i64(0..TIMES);
            // Mostly a few; now and then so many that the block is not merged with small ones, or more than a chunk.
            let samples = match self.random.u8(..) {
                0 => 1500,
                1..=16 => self.random.i64(100..400),
                _ => self.random.i64(1..30),
            };
            // Far enough away for a wide block.
            let far = if self.random.u8(..60) == 0 { 100 * TIMES } else { 0 };
            let sample = |i| {
                // Times on a grid, so that they come again.
                let t = if self.random.u8(..8) == 0 { self.random.i64(0..TIMES) } else { base + i * 15_000 };
                let v = if self.random.bool() { self.random.f64() } else { f64::from(self.random.u8(..)) };
                Sample { t: far + t / 15_000 * 15_000, v }
            };
            let floats: Vec<Sample> = (0..samples).map(sample).collect();
            record.push((series, self.points(series, floats)));
        }
        self.world.append(partition, record);
    }

    /// Floats, and of some series with when they began, or with histograms among them. Those out of which samples are left have floats alone.
    fn points(&mut self, series: u64, floats: Vec<Sample>) -> Points {
        let random = &mut self.random;
        match series {
            0 | 5 => {
                let starts = floats.iter().map(|_| random.i64(0..3)).collect();
                Points { floats, starts, ..Points::default() }
            }
            2 | 3 => {
                let mut family = Family::new(random);
                let (histograms, floats): (Vec<Sample>, Vec<Sample>) = floats.into_iter().partition(|_| random.bool());
                // Some hundred buckets each: enough of them for several in a chunk.
                let histograms = histograms.into_iter().take(20).map(|s| family.sample(s.t, random)).collect();
                Points { floats, histograms, ..Points::default() }
            }
            _ => floats.into(),
        }
    }

    fn plan_fault(&mut self) {
        let fault = match self.random.u8(..8) {
            0..=3 => Fault::Crash,
            4 => Fault::ShortWrite,
            5 => Fault::Error(ErrorKind::StorageFull),
            _ => Fault::Error(ErrorKind::Other),
        };
        self.world.disk.fail_at(self.world.disk.calls() + self.random.u64(..25), fault);
    }

    /// Another process, as often as it takes while faults come. Now and then a block that it finds is damaged.
    fn restart(&mut self) {
        if self.random.u8(..3) == 0 {
            let random = std::cell::RefCell::new(&mut self.random);
            let choose = |names: &[String]| random.borrow_mut().choice(names).cloned();
            self.world.damage(choose, |bytes| random.borrow_mut().usize(..bytes));
        }
        loop {
            let loss = match self.random.u8(..4) {
                0 => Loss::Nothing,
                1 => Loss::Unsynced,
                2 => Loss::AllButNewest,
                _ => Loss::Torn,
            };
            let done = self.world.restart(loss);
            let Err(error) = done else { return };
            assert!(self.world.disk.failures() > 0, "{error}");
            // A disk that stays full may keep an engine from beginning.
            self.world.disk.set_capacity(usize::MAX);
        }
    }

    /// Some series and some time.
    fn choose(&mut self) -> (&'static [(MatchOp, &'static str, &'static str)], TimeRange) {
        let start_ms = self.random.i64(-HOUR..TIMES);
        let range = TimeRange { start_ms, end_ms: start_ms + self.random.i64(0..7 * HOUR) };
        let matchers: &'static [_] = match self.random.u8(..6) {
            0 => &[(MatchOp::Equal, "series", "4")],
            1 => &[(MatchOp::NotEqual, "series", "3")],
            2 => &[(MatchOp::Regex, "series", "1|2|5")],
            3 => &[(MatchOp::NotRegex, "series", "0|4"), (MatchOp::Regex, "series", "0|1|2")],
            _ => &[],
        };
        (matchers, range)
    }

    fn check(&mut self) -> Result<(), Error> {
        let (matchers, range) = self.choose();
        self.world.check(matchers, range)?;
        self.world.check_values(matchers, range)
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn engine_equals_a_map_under_random_operations_and_faults() {
    let given = variable("WEIR_MODEL_SEED");
    let first = given.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let seeds = variable("WEIR_MODEL_SEEDS").unwrap_or(if given.is_some() { 1 } else { SEEDS });
    let (next, quiet_merges) = (AtomicU64::new(first), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(seeds) {
                        return;
                    }
                    quiet_merges.fetch_add(History::run(seed), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(seeds < SEEDS || quiet_merges.into_inner() > seeds / 100, "histories in which it is quiet are missing");
}
