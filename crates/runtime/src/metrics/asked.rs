//! Gauges that nobody sets: those whose value is asked for when the registry is read, and bounds, whose value never changes.

use std::path::{Path, PathBuf};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Opts, Registry};

/// A gauge with the question for its value.
struct Asked<F> {
    gauge: Gauge,
    ask: F,
}

impl<F: Fn() -> Option<f64> + Send + Sync> Collector for Asked<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(value) = (self.ask)() else { return Vec::new() };
        self.gauge.set(value);
        self.gauge.collect()
    }
}

/// Registers a gauge whose value is asked for each time that the registry is read; `None` leaves it out of that reading. `ask` must not wait for
/// anything but the system. The registry may outlive its component, so `ask` should hold nothing that has to end before.
pub fn register_asked(
    registry: &Registry,
    name: &str,
    help: &str,
    ask: impl Fn() -> Option<f64> + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let gauge = Gauge::with_opts(Opts::new(name, help))?;
    registry.register(Box::new(Asked { gauge, ask }))
}

/// Registers bounds of what else is measured, each as name, meaning and value, so that an alert or a panel needs not repeat a flag.
pub fn register_bounds(registry: &Registry, bounds: &[(&str, &str, u64)]) -> Result<(), prometheus::Error> {
    for (name, help, value) in bounds {
        let gauge = IntGauge::new(*name, *help)?;
        gauge.set(i64::try_from(*value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

/// The names of a component's metrics of the file system that its data is on.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// `weir_<component>_disk_free_bytes`.
    pub free: &'static str,
    /// `weir_<component>_disk_size_bytes`.
    pub size: &'static str,
}

/// Registers how large the file system of a directory is and how much of it this process may still write. They are left out while the system does
/// not say.
pub fn register_disk(registry: &Registry, names: Disk, dir: &Path) -> Result<(), prometheus::Error> {
    let ask = |dir: PathBuf, of: fn(&rustix::fs::StatVfs) -> u64| {
        move || {
            let told = rustix::fs::statvfs(&dir).ok()?;
            // In fragments, which blocks are a multiple of.
            Some(of(&told) as f64 * told.f_frsize as f64)
        }
    };
    // Without what is kept for the superuser.
    let free = ask(dir.to_owned(), |told| told.f_bavail);
    register_asked(registry, names.free, "Bytes that can still be written to the file system of the data.", free)?;
    let size = ask(dir.to_owned(), |told| told.f_blocks);
    register_asked(registry, names.size, "Size of the file system of the data.", size)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn told(registry: &Registry) -> Vec<(String, f64)> {
        let families = registry.gather();
        families.iter().map(|f| (f.name().to_owned(), f.get_metric()[0].get_gauge().get_value())).collect()
    }

    #[test]
    fn a_gauge_is_asked_at_each_reading_and_left_out_where_there_is_no_answer() {
        let (registry, value) = (Registry::new(), Arc::new(AtomicI64::new(1)));
        let own = Arc::downgrade(&value);
        let ask = move || own.upgrade().map(|value| value.load(Ordering::Relaxed) as f64);
        register_asked(&registry, "depth", "How deep.", ask).expect("registered");
        assert_eq!(told(&registry), [("depth".to_owned(), 1.0)]);
        value.store(7, Ordering::Relaxed);
        assert_eq!(told(&registry), [("depth".to_owned(), 7.0)]);
        drop(value);
        assert_eq!(told(&registry), []);
    }

    #[test]
    fn bounds_are_gauges_and_one_without_end_is_the_largest() {
        let registry = Registry::new();
        register_bounds(&registry, &[("a_max", "Bound.", 9), ("b_max", "Bound.", u64::MAX)]).expect("registered");
        assert_eq!(told(&registry), [("a_max".to_owned(), 9.0), ("b_max".to_owned(), i64::MAX as f64)]);
        register_bounds(&registry, &[("a_max", "Bound.", 9)]).expect_err("it is there already");
    }

    #[test]
    fn the_disk_is_that_of_the_directory_and_is_asked_again() {
        let (registry, dir) = (Registry::new(), tempfile::tempdir().expect("directory"));
        let inner = dir.path().join("data");
        register_disk(&registry, Disk { free: "free", size: "size" }, &inner).expect("registered");
        assert_eq!(told(&registry), [], "a directory that is not there yet");
        std::fs::create_dir(&inner).expect("made");
        let seen = told(&registry);
        let [(free_name, free), (size_name, size)] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((free_name.as_str(), size_name.as_str()), ("free", "size"));
        // As df says, in blocks of 1024 bytes.
        let df = std::process::Command::new("df").args(["--output=size", "-k"]).arg(&inner).output().expect("df runs");
        let df = String::from_utf8(df.stdout).expect("UTF-8");
        let kib: f64 = df.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number");
        assert_eq!((*size / 1024.0).floor(), kib);
        assert!((0.0..=*size).contains(free), "{free} of {size}");
    }
}
