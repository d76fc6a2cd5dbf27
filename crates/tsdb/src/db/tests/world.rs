//! An engine on a simulated disk, the log that it was fed from, and the map of what a reader should find.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Cancel, Columns, Exemplar, ExemplarsRequest, HistogramSample, Labels, LabelsRequest, MatchOp, Matcher, Sample,
    Samples, SeriesSource, SourceError, TimeRange,
};

use super::{Any, HOUR, lock, request};
use crate::disk::simulated::{Loss, Simulated};
use crate::{Db, DownsampleRule, Error, Level, Options};

/// Series of which each partition has every second one.
pub(super) const SERIES: u64 = 6;
pub(super) const PARTITIONS: u32 = 2;
/// Older samples than this expire.
const RETENTION: i64 = 3 * HOUR;
/// Length of the longest windows out of which samples are left.
const WINDOW: i64 = HOUR / 3;
/// Samples are of times from 0 up to this.
pub(super) const TIMES: i64 = 5 * HOUR;

/// Samples of one series, each with its time: floats, with when they began, before histograms.
#[derive(Debug, Clone, Default)]
pub(super) struct Points {
    pub(super) floats: Vec<Sample>,
    /// As many, or none.
    pub(super) starts: Vec<i64>,
    pub(super) histograms: Vec<HistogramSample>,
}

/// What one record of the log holds.
type Record = Vec<(u64, Points)>;
/// Series and time to what is there.
pub(super) type Map = BTreeMap<(u64, i64), Any>;
/// Series, time and the bits of the value: each sample of some series has an exemplar with its value, and those stay that a later sample of the time has
/// written over.
type Exemplars = BTreeSet<(u64, i64, u64)>;

/// What somebody deleted.
#[derive(Debug, Clone)]
struct Deletion {
    /// How many records each partition had.
    ends: Vec<i64>,
    matchers: Vec<Matcher>,
    range: TimeRange,
}

pub(super) struct World {
    pub(super) disk: Simulated,
    pub(super) db: Db,
    /// The records of each partition, from offset 0.
    log: Vec<Vec<Record>>,
    /// All that is in the log and not deleted.
    all: Map,
    exemplars: Exemplars,
    deletes: Vec<Deletion>,
    /// One during which the process ended: nobody knows whether it was done, and it is asked for again.
    unsettled: Option<Deletion>,
    /// Positions that a flush returned: what is before them may be gone from the log.
    flushed: BTreeMap<u32, i64>,
    pub(super) now_ms: i64,
    /// Samples before this are not shown.
    floor_ms: i64,
    /// A block was damaged, or found to be, that was not yet written again.
    damaged: bool,
    /// Merges that were begun of so few blocks that there is only one reason for it.
    pub(super) quiet_merges: u64,
}

/// One label, since the index of each is most of what a small block costs.
fn labels(series: u64) -> Labels {
    Labels::new(&[("series", &series.to_string())]).expect("valid")
}

pub(super) fn options() -> Options {
    let series = Matcher::new(MatchOp::Regex, "series", "1|4").expect("valid");
    let level = |age_ms, resolution_ms: i64| Level { age_ms, resolution_ms: resolution_ms as u32 };
    let levels = vec![level(1, WINDOW / 4), level(HOUR, WINDOW)];
    Options {
        retention_ms: Some(RETENTION),
        head_bytes_max: 1 << 16,
        block_span_ms: 2 * HOUR,
        downsample: vec![DownsampleRule { matchers: vec![series], levels }],
        ..Options::default()
    }
}

/// Whether samples of a series are left out when they are old.
fn is_thinned(series: u64) -> bool {
    matches!(series, 1 | 4)
}

fn open(disk: &Simulated) -> Result<Db, Error> {
    Db::open_on(std::sync::Arc::new(disk.clone()), options())
}

impl From<Vec<Sample>> for Points {
    fn from(floats: Vec<Sample>) -> Self {
        Points { floats, ..Points::default() }
    }
}

impl Points {
    fn samples(&self) -> Samples<'_> {
        Samples { floats: &self.floats, starts: &self.starts, histograms: &self.histograms }
    }

    /// In the order in which they are written.
    fn each(&self) -> impl Iterator<Item = (i64, Any)> + '_ {
        let floats = self.floats.iter().enumerate();
        let floats = floats.map(|(at, s)| (s.t, Any::Float(s.v.to_bits(), self.samples().start(at))));
        floats.chain(self.histograms.iter().map(|sample| (sample.t, Any::Histogram(sample.clone()))))
    }
}

fn insert(map: &mut Map, record: &Record) {
    for (series, points) in record {
        map.extend(points.each().map(|(t, any)| ((*series, t), any)));
    }
}

fn has_exemplars(series: u64) -> bool {
    series.is_multiple_of(3)
}

fn insert_exemplars(all: &mut Exemplars, record: &Record) {
    for (series, points) in record.iter().filter(|(series, _)| has_exemplars(*series)) {
        all.extend(points.floats.iter().map(|s| (*series, s.t, s.v.to_bits())));
    }
}

impl Deletion {
    fn take_from(&self, map: &mut Map) {
        map.retain(|(of, t), _| !self.takes(*of, *t));
    }

    fn takes(&self, series: u64, t: i64) -> bool {
        let labels: Labels = labels(series);
        self.range.contains(t) && self.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }
}

fn apply(db: &Db, partition: u32, offset: i64, record: &Record) {
    let mut batch = db.begin();
    for (series, points) in record {
        batch.append(labels(*series).as_ref(), points.samples());
        if has_exemplars(*series) {
            let exemplar = |s: &Sample| Exemplar { t: s.t, v: s.v, labels: Labels::empty() };
            batch.exemplars(labels(*series).as_ref(), &points.floats.iter().map(exemplar).collect::<Vec<_>>());
        }
    }
    batch.finish(partition, offset + 1);
}

impl World {
    /// An engine on an empty disk.
    pub(super) fn new(disk: Simulated) -> Result<World, Error> {
        Ok(World {
            db: open(&disk)?,
            disk,
            log: vec![Vec::new(); PARTITIONS as usize],
            all: Map::new(),
            exemplars: Exemplars::new(),
            deletes: Vec::new(),
            unsettled: None,
            flushed: BTreeMap::new(),
            now_ms: 0,
            floor_ms: i64::MIN,
            damaged: false,
            quiet_merges: 0,
        })
    }

    /// A record that is acknowledged and consumed.
    pub(super) fn append(&mut self, partition: u32, record: Record) {
        let log = &mut self.log[partition as usize];
        apply(&self.db, partition, log.len() as i64, &record);
        insert(&mut self.all, &record);
        insert_exemplars(&mut self.exemplars, &record);
        log.push(record);
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.flushed = self.db.flush()?;
        for (partition, log) in (0..).zip(&self.log) {
            let reached = self.flushed.get(&partition).copied().unwrap_or(0);
            assert_eq!(reached, log.len() as i64, "a flush covers all that was appended before it");
        }
        Ok(())
    }

    /// Deletes what was appended until now. What failed is asked for again at once, so that it is known whether it was done; if the process has ended, it is
    /// by the next one.
    pub(super) fn delete(&mut self, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Result<(), Error> {
        let ends = self.log.iter().map(|log| log.len() as i64).collect();
        self.unsettled = Some(Deletion { ends, matchers: build(matchers), range });
        while let Err(error) = self.settle() {
            if self.disk.has_crashed() {
                return Err(error);
            }
            assert!(self.disk.failures() > 0, "{error}");
            self.disk.set_capacity(usize::MAX);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        let Some(deletion) = &self.unsettled else { return Ok(()) };
        self.db.delete(&deletion.matchers, deletion.range)?;
        deletion.take_from(&mut self.all);
        self.exemplars.retain(|(series, t, _)| !deletion.takes(*series, *t));
        self.flushed = self.db.positions();
        self.deletes.extend(self.unsettled.take());
        Ok(())
    }

    /// What is in the records before these positions and not deleted.
    fn before(&self, positions: &BTreeMap<u32, i64>, deletes: &[Deletion]) -> Map {
        let mut all = Map::new();
        for (partition, log) in self.log.iter().enumerate() {
            let position = positions.get(&(partition as u32)).copied().unwrap_or(0);
            let mut own = Map::new();
            for offset in 0..=position {
                deletes.iter().filter(|d| d.ends[partition] == offset).for_each(|d| d.take_from(&mut own));
                log[..position as usize].get(offset as usize).into_iter().for_each(|record| insert(&mut own, record));
            }
            all.append(&mut own);
        }
        all
    }

    pub(super) fn compact(&mut self) -> Result<(), Error> {
        loop {
            self.quiet_merges += u64::from(self.db.choose_merge().is_some_and(|run| run.len() < 4));
            let cancel = Cancel::default();
            let merged = self.db.compact(&cancel);
            match merged.and_then(|merged| Ok(merged || self.db.downsample(&cancel)?)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Damage in what has expired or is deleted is found by nobody else.
                Err(Error::Corrupt { .. }) if !self.db.lost().is_empty() => {
                    self.damaged = true;
                    self.mend_if_damaged()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets time pass in which nothing is written.
    pub(super) fn rest(&mut self, ms: i64) -> Result<(), Error> {
        self.now_ms += ms;
        self.expire()
    }

    /// Expires, and says that no file is there which is not needed any more.
    pub(super) fn expire(&mut self) -> Result<(), Error> {
        self.floor_ms = self.floor_ms.max(self.now_ms - RETENTION);
        self.db.expire(self.now_ms)?;
        self.check_files(&self.db);
        Ok(())
    }

    /// The process ends and another one begins: what it finds, it finds whole, and with the log it has everything.
    ///
    /// Fails if the disk does; it can then be tried again.
    pub(super) fn restart(&mut self, loss: Loss) -> Result<(), Error> {
        self.disk = self.disk.restart(loss);
        self.reopen()
    }

    /// Changes a byte of a block that can be written again, which it is when that is found.
    pub(super) fn damage(&mut self, choose: impl FnOnce(&[String]) -> Option<String>, at: impl FnOnce(usize) -> usize) {
        let named = lock(&self.db.committed).manifest.blocks.clone();
        let names: Vec<String> =
            named.into_iter().filter(|entry| entry.from.is_known()).map(|entry| entry.name).collect();
        if let Some(name) = choose(&names) {
            let bytes = self.disk.bytes(&name);
            if bytes > 0 {
                self.disk.flip(&name, at(bytes));
                self.damaged = true;
            }
        }
    }

    fn mend_if_damaged(&mut self) -> Result<(), Error> {
        if self.damaged {
            self.mend(&self.db)?;
            self.damaged = false;
        }
        Ok(())
    }

    /// Finds damaged blocks by reading all there is, and writes them again from the log.
    fn mend(&self, db: &Db) -> Result<(), Error> {
        for (_, block) in &db.view().blocks {
            match block.index.check() {
                Err(Error::Corrupt { .. }) => {}
                done => done?,
            }
        }
        for series in db.select(&request(build(&[]), TimeRange::ALL)).map_err(failed)?.series {
            match series.data.read(TimeRange::ALL, &mut Columns::default()) {
                Err(error) if error.kind == model::Kind::Corrupt => {}
                done => done.map_err(failed)?,
            }
        }
        for lost in db.lost() {
            let mut rebuild = db.rebuild(&lost.block).expect("it is there");
            for (partition, offsets) in lost.records {
                let log = (0i64..).zip(&self.log[partition as usize]);
                for (offset, record) in
                    log.skip(offsets.start as usize).take_while(|(offset, _)| offsets.contains(offset))
                {
                    record
                        .iter()
                        .for_each(|(series, points)| rebuild.append(labels(*series).as_ref(), points.samples()));
                    rebuild.end_record(partition, offset)?;
                }
            }
            assert!(rebuild.finish()?);
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let db = open(&self.disk)?;
        self.check_files(&db);
        assert!(!self.disk.names().contains("manifest.new"), "a start removes it");
        db.expire(self.now_ms)?;
        if self.damaged {
            self.mend(&db)?;
            self.damaged = false;
        }
        let warnings = [db.warnings(), db.exemplars_warning().into_iter().collect()].concat();
        if !warnings.is_empty() {
            assert!(self.disk.failures() > 0, "{warnings:?}");
            return Err(Error::Limit("a file could not be opened".to_owned()));
        }
        self.db = db;
        let positions = self.db.positions();
        for partition in 0..PARTITIONS {
            let position = positions.get(&partition).copied().unwrap_or(0);
            let flushed = self.flushed.get(&partition).copied().unwrap_or(0);
            assert!(
                position >= flushed,
                "partition {partition} is read from {position}, and the log begins at {flushed}"
            );
        }
        let since = TimeRange { start_ms: self.floor_ms, end_ms: i64::MAX };
        let found = read(&self.db, &[], since)?;
        let expect = |deletes: &[Deletion]| {
            let mut expect = self.before(&positions, deletes);
            expect.retain(|(_, t), _| since.contains(*t));
            expect
        };
        let with_it = || expect(&[&self.deletes[..], self.unsettled.as_slice()].concat());
        if self.unsettled.is_none() || !self.is_of(&found, &with_it(), since) {
            let expect = expect(&self.deletes);
            assert!(
                self.is_of(&found, &expect, since),
                "what is in blocks is what is before the positions: {found:?}, not {expect:?}"
            );
        }
        for (partition, log) in (0..).zip(&self.log) {
            let position = positions.get(&partition).copied().unwrap_or(0);
            for (offset, record) in (0..).zip(log).skip(position as usize) {
                apply(&self.db, partition, offset, record);
            }
        }
        self.settle()?;
        self.expire()
    }

    /// No file is there that is not needed now, or by a restart.
    fn check_files(&self, db: &Db) {
        let committed = lock(&db.committed);
        let mut needed = committed.manifest.names();
        needed.extend(committed.waiting.iter().cloned());
        needed.insert("manifest".to_owned());
        // Of a commit that failed, where it could not even be removed: the next one writes over it.
        needed.insert("manifest.new".to_owned());
        let found = self.disk.names();
        assert!(found.is_subset(&needed), "{found:?}, and needed are {needed:?}");
    }

    /// What a reader finds is what the map holds.
    pub(super) fn check(&mut self, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Result<(), Error> {
        // A fault may have kept one that was found from being written again at once.
        self.mend_if_damaged()?;
        let found = read(&self.db, matchers, range)?;
        let expect = self.expect(matchers, range);
        assert!(self.is_of(&found, &expect, range), "{matchers:?} {range:?}: {found:?}, not {expect:?}");
        let found = read_exemplars(&self.db, matchers, range);
        let start_ms = range.start_ms.max(self.floor_ms);
        let mut expect = self.exemplars.clone();
        expect.retain(|(of, t, _)| start_ms <= *t && *t <= range.end_ms && meets(*of, matchers));
        assert_eq!(found, expect, "exemplars of {matchers:?} {range:?}");
        assert!(self.db.warnings().is_empty(), "{:?}", self.db.warnings());
        Ok(())
    }

    /// Whether what was found in a range is what there should be: all of it, but for series of which samples are left out. Of these nothing else is
    /// found, and the last of each window is, unless something of them was deleted.
    fn is_of(&self, found: &Map, expect: &Map, range: TimeRange) -> bool {
        let window = |t: &i64| t.div_euclid(WINDOW) + i64::from(t.rem_euclid(WINDOW) > 0);
        let is_last = |(series, t): &(u64, i64)| {
            let next = expect.range((*series, *t + 1)..=(*series, i64::MAX)).next();
            window(t) * WINDOW <= range.end_ms && next.is_none_or(|((_, next), _)| window(next) != window(t))
        };
        let is_untouched = self.deletes.is_empty() && self.unsettled.is_none();
        let may_lack = |key: &(u64, i64)| is_thinned(key.0) && !(is_untouched && is_last(key));
        found.iter().all(|(key, any)| expect.get(key) == Some(any))
            && expect.keys().all(|key| found.contains_key(key) || may_lack(key))
    }

    pub(super) fn check_all(&mut self) -> Result<(), Error> {
        self.check(&[], TimeRange::ALL)?;
        self.check_values(&[], TimeRange::ALL)
    }

    /// Label values are those of the series that have samples, and perhaps of some that may have.
    pub(super) fn check_values(&self, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Result<(), Error> {
        let matcher_sets = vec![build(matchers)];
        let asked = LabelsRequest { matcher_sets, range, cancel: Cancel::default() };
        let found = self.db.label_values("series", &asked).map_err(failed)?;
        let found: BTreeSet<u64> = found.items.iter().map(|value| value.parse().expect("a number")).collect();
        let visible: BTreeSet<u64> = self.expect(matchers, range).into_keys().map(|(series, _)| series).collect();
        let known: BTreeSet<u64> = (0..SERIES).filter(|n| meets(*n, matchers)).collect();
        assert!(
            found.is_superset(&visible) && found.is_subset(&known),
            "{matchers:?} {range:?}: {found:?} {visible:?}"
        );
        Ok(())
    }

    fn expect(&self, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Map {
        let start_ms = range.start_ms.max(self.floor_ms);
        let mut out = Map::new();
        for series in (0..SERIES).filter(|n| start_ms <= range.end_ms && meets(*n, matchers)) {
            out.extend(
                self.all.range((series, start_ms)..=(series, range.end_ms)).map(|(key, any)| (*key, any.clone())),
            );
        }
        out
    }
}

fn build(matchers: &[(MatchOp, &str, &str)]) -> Vec<Matcher> {
    let matchers = [(MatchOp::NotEqual, "series", "")].into_iter().chain(matchers.iter().copied());
    matchers.map(|(op, name, value)| Matcher::new(op, name, value).expect("valid")).collect()
}

fn meets(series: u64, matchers: &[(MatchOp, &str, &str)]) -> bool {
    let labels: Labels = labels(series);
    matchers.iter().all(|(op, name, value)| {
        let own = labels.get(name).unwrap_or("");
        match op {
            MatchOp::Equal => own == *value,
            MatchOp::NotEqual => own != *value,
            // Those of the test are alternatives of whole values.
            MatchOp::Regex => value.split('|').any(|one| one == own),
            MatchOp::NotRegex => !value.split('|').any(|one| one == own),
        }
    })
}

/// A failure of a read, as one of the engine's.
fn failed(error: SourceError) -> Error {
    assert_ne!(error.kind, model::Kind::Corrupt, "{error}");
    Error::Limit(error.message)
}

fn read_exemplars(db: &Db, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Exemplars {
    let matcher_sets = vec![build(matchers)];
    let asked = ExemplarsRequest { matcher_sets, range, exemplars_max: usize::MAX, cancel: Cancel::default() };
    let mut out = Exemplars::new();
    for one in db.exemplars(&asked).expect("needs no disk").items {
        let number = one.series.get("series").and_then(|n| n.parse().ok()).expect("a number");
        for exemplar in one.exemplars {
            assert!(out.insert((number, exemplar.t, exemplar.v.to_bits())), "each once");
        }
    }
    out
}

fn read(db: &Db, matchers: &[(MatchOp, &str, &str)], range: TimeRange) -> Result<Map, Error> {
    let mut out = Map::new();
    for series in db.select(&request(build(matchers), range)).map_err(failed)?.series {
        let mut samples = Columns::default();
        series.data.read(range, &mut samples).map_err(failed)?;
        assert!(samples.t.is_sorted_by(|a, b| a < b), "ascending, each time once");
        let number = series.labels.get("series").and_then(|n| n.parse().ok()).expect("a number");
        let floats = samples.t.iter().zip(&samples.v).enumerate();
        let floats = floats.map(|(at, (t, v))| (*t, Any::Float(v.to_bits(), samples.start(at))));
        for (t, any) in floats.chain(samples.histograms.iter().map(|h| (h.t, Any::Histogram(h.clone())))) {
            assert_eq!(out.insert((number, t), any), None, "each label set and each time once");
        }
    }
    Ok(out)
}
