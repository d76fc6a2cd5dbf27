//! Series in memory.

use std::collections::BTreeMap;

use model::{
    Columns, CountRequest, Kind, Labels, LabelsRequest, Listing, Metadata, SelectRequest, Series, SeriesCounts,
    SeriesData, SeriesSet, SeriesSource, SourceError, TimeRange, is_stale,
};

/// Series by their labels.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    pub(crate) series: BTreeMap<Labels, Columns>,
    /// As in [`SeriesSet`].
    pub(crate) resolution_ms: i64,
}

struct Data(Columns);

impl SeriesData for Data {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        for (at, (t, v)) in self.0.t.iter().zip(&self.0.v).enumerate().filter(|(_, (t, _))| range.contains(**t)) {
            out.push(*t, *v);
            out.set_last_aggregate(self.0.aggregate(at));
        }
        out.histograms.extend(self.0.histograms.iter().filter(|h| range.contains(h.t)).cloned());
        Ok(())
    }
}

/// The same series in a source that can count them.
pub(crate) struct Counting<'a>(pub(crate) &'a Memory);

impl SeriesSource for Counting<'_> {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.0.select(request)
    }

    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let mut groups = BTreeMap::new();
        for (labels, columns) in &self.0.series {
            let newest = columns.t.iter().rposition(|t| request.range.contains(*t));
            let histogram = columns.histograms.iter().rfind(|h| request.range.contains(h.t));
            let is_live = match (newest, histogram) {
                (Some(at), histogram) if histogram.is_none_or(|h| h.t < columns.t[at]) => !is_stale(columns.v[at]),
                (_, histogram) => histogram.is_some_and(|h| !h.histogram.is_stale()),
            };
            if is_live && request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or(""))) {
                let value = request.by.as_deref().and_then(|name| labels.get(name)).unwrap_or("");
                *groups.entry(value.to_owned()).or_default() += 1;
            }
        }
        Ok(Some(SeriesCounts { groups: groups.into_iter().collect(), warnings: Vec::new() }))
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.0.metadata(family)
    }
}

impl SeriesSource for Memory {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let mut set = SeriesSet { resolution_ms: self.resolution_ms, ..SeriesSet::default() };
        for (labels, columns) in &self.series {
            let matches = request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
            if matches
                && columns
                    .t
                    .iter()
                    .copied()
                    .chain(columns.histograms.iter().map(|h| h.t))
                    .any(|t| request.range.contains(t))
            {
                set.series.push(Series { labels: labels.clone(), data: Box::new(Data(columns.clone())) });
            }
        }
        if set.series.len() > request.series_max {
            return Err(SourceError { kind: Kind::Invalid, message: "too many series".to_owned() });
        }
        Ok(set)
    }

    fn label_names(&self, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        Ok(Vec::new().into())
    }

    fn label_values(&self, _: &str, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        Ok(Vec::new().into())
    }

    fn metadata(&self, _: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        Ok(Vec::new().into())
    }
}
