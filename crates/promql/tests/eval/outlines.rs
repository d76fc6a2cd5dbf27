//! What a source is told of outlines when it is asked for series: it may be far away, and then that is all that it goes by.

use std::sync::{Arc, Mutex};

use model::{
    Columns, LabelsRequest, Listing, Metadata, Outline, OutlineRequest, SelectRequest, Series, SeriesData, SeriesSet,
    SeriesSource, SourceError, TimeRange, Want,
};

use crate::run;
use crate::source::Memory;

/// For each read what was told before and what was read, each with its range.
type Reads = Arc<Mutex<Vec<[(Want, TimeRange); 2]>>>;

/// A source that keeps what it was told, and what was then read of its series.
#[derive(Default)]
struct Told {
    memory: Memory,
    reads: Reads,
}

struct Data {
    inner: Box<dyn SeriesData>,
    told: (Want, TimeRange),
    reads: Reads,
}

impl Data {
    fn see(&self, want: Want, range: TimeRange) {
        self.reads.lock().expect("nobody panicked").push([self.told.clone(), (want, range)]);
    }
}

impl SeriesData for Data {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        self.see(Want::Samples, range);
        self.inner.read(range, out)
    }

    fn outline(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        self.see(Want::Outline { aspect: request.aspect, edges: request.edges.to_vec() }, request.range);
        self.inner.outline(request, out)
    }
}

impl SeriesSource for Told {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let mut set = self.memory.select(request)?;
        let told = (request.want.clone(), request.range);
        let tell = |Series { labels, data: inner }: Series| Series {
            labels,
            data: Box::new(Data { inner, told: told.clone(), reads: self.reads.clone() }),
        };
        set.series = set.series.into_iter().map(tell).collect();
        Ok(set)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.memory.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.memory.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.memory.metadata(family)
    }
}

#[test]
fn a_source_is_told_of_the_outlines_that_are_then_asked_of_its_series() {
    let check = |query: &str, outlines: usize, samples: usize| {
        for mut params in [run::params(3_600_000, 3_600_000, 0), run::params(0, 3_600_000, 600_000)] {
            // Where it is looked at when counting began, all samples are read.
            params.features.use_start_timestamps = false;
            let mut source = Told::default();
            let labels = model::Labels::new(&[("__name__", "x_total")]).expect("labels");
            let columns = source.memory.series.entry(labels).or_default();
            (0..=60).for_each(|n| columns.push(n * 60_000, n as f64));
            run::evaluate(&source, query, &params).expect("is evaluated");
            let reads = source.reads.lock().expect("nobody panicked");
            for [told, read] in reads.iter() {
                assert_eq!(told, read, "{query}");
            }
            let number = |is: fn(&Want) -> bool| reads.iter().filter(|[(told, _), _]| is(told)).count();
            let of_outlines = number(|want| matches!(want, Want::Outline { .. }));
            assert_eq!((of_outlines, number(|want| *want == Want::Samples)), (outlines, samples), "{query}");
        }
    };
    check("max_over_time(x_total[30m])", 1, 0);
    check("rate(x_total[7m] offset 3m)", 1, 0);
    check("changes(x_total[50m])", 1, 0);
    check("avg_over_time(x_total[10m] @ end())", 1, 0);
    check("last_over_time(x_total[10m]) + x_total", 1, 1);
    check("quantile_over_time(0.5, x_total[10m])", 0, 1);
    check("increase(x_total[10m] anchored)", 0, 1);
    check("max_over_time(x_total[10m:1m])", 0, 1);
}
