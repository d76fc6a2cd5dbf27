//! One history, and every call that it makes of the disk failing in turn.

use model::{MatchOp, Sample, TimeRange};

use super::HOUR;
use super::world::{Points, World};
use crate::Error;
use crate::disk::simulated::{FAULTS, Fault, Loss, Simulated};
use crate::testing::Family;

/// What happens in the history.
type Step = fn(&mut World) -> Result<(), Error>;

fn append(world: &mut World, partition: u32, series: u64, times: &[i64]) {
    let v = (world.now_ms + times[0]) as f64;
    let floats: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v }).collect();
    world.append(partition, vec![(series, floats.into())]);
}

/// Samples with when they began, and histograms.
fn append_rich(world: &mut World, partition: u32, series: u64, times: &[i64]) {
    let mut random = fastrand::Rng::with_seed(times[0] as u64);
    let mut family = Family::new(&mut random);
    let floats: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: 0.5 }).collect();
    let histograms = times.iter().map(|t| family.sample(t + 100, &mut random)).collect();
    let starts = times.iter().map(|t| t - 1).collect();
    world.append(partition, vec![(series, Points { floats, starts, histograms })]);
}

/// Blocks of two spans, late samples, duplicates, a deletion, a merge, a block that expires, samples that are left out, a merge of two blocks since it is quiet.
const STEPS: [Step; 17] = [
    |world| {
        append(world, 0, 0, &[1, 2, 3]);
        append(world, 1, 1, &[5, 2 * HOUR]);
        world.flush()
    },
    |world| {
        append(world, 0, 2, &[3, 4, 5]);
        append_rich(world, 1, 5, &[3, 4, 5, HOUR]);
        world.flush()
    },
    |world| {
        append(world, 0, 0, &[2, 1, 7]);
        world.check_all()?;
        world.flush()
    },
    |world| {
        append(world, 0, 0, &[8]);
        world.delete(&[(MatchOp::Equal, "series", "0")], TimeRange { start_ms: 2, end_ms: 7 })
    },
    |world| {
        append(world, 1, 3, &[1]);
        append_rich(world, 1, 5, &[2, 4, 2 * HOUR]);
        append(world, 1, 1, &[2 * HOUR + 1]);
        world.flush()
    },
    World::compact,
    |world| world.check_all(),
    |world| {
        append(world, 0, 4, &[6, 6 * HOUR]);
        world.now_ms = 6 * HOUR;
        world.expire()
    },
    World::flush,
    |world| world.check_all(),
    |world| {
        // Irregular, so that fewer take less room.
        let v = |n: i64| (n * 1_000_000 + n * n * 7919 % 999_983) as f64;
        let sample = |n| Sample { t: 3 * HOUR + n * 15_000, v: v(n) };
        world.append(0, vec![(4, (0..200).map(sample).collect::<Vec<_>>().into())]);
        world.flush()
    },
    World::compact,
    |world| world.check_all(),
    |world| {
        append(world, 0, 0, &[6 * HOUR, 6 * HOUR + 1]);
        world.flush()
    },
    |world| {
        append(world, 0, 0, &[6 * HOUR + 1, 6 * HOUR + 2]);
        world.flush()?;
        world.rest(HOUR)
    },
    World::compact,
    |world| world.check_all(),
];

/// Runs it, with another process where one ends. What fails once is not tried again: the steps that follow have to make up for it.
fn run(disk: Simulated, loss: Loss) -> World {
    let mut world = World::new(disk.clone()).unwrap_or_else(|error| {
        assert!(disk.failures() > 0, "{error}");
        World::new(disk.restart(loss)).expect("opens the second time")
    });
    for step in STEPS {
        let failures = world.disk.failures();
        if let Err(error) = step(&mut world) {
            assert!(world.disk.failures() > failures, "{error}");
        }
        if world.disk.has_crashed() {
            world.restart(loss).expect("restarts");
        }
    }
    world
}

#[test]
fn after_a_fault_at_any_call_everything_is_there_once_and_no_file_is_left() {
    let disk = Simulated::new(1);
    let world = run(disk.clone(), Loss::Nothing);
    let left_out = world.db.stats().downsampled;
    assert!(left_out.samples_after > 0 && left_out.samples_after < left_out.samples_before, "{left_out:?}");
    assert!(world.quiet_merges > 0, "two blocks were merged");
    let calls = disk.calls();
    assert!(calls > 100, "{calls}");
    for (fault, loss) in FAULTS {
        for call in 0..calls {
            let disk = Simulated::new(call);
            disk.fail_at(call, fault);
            let _told = Context(call, fault, loss);
            let mut world = run(disk, loss);
            world.check_all().expect("reads");
            world.flush().expect("flushes");
            world.expire().expect("expires");
            world.restart(loss).expect("restarts");
            world.check_all().expect("reads");
        }
    }
}

/// Says at which call it was when a test fails.
struct Context(u64, Fault, Loss);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("call {}, {:?}, {:?}", self.0, self.1, self.2);
        }
    }
}
