//! A source of series that remembers how far it was when it was read, so that what was evaluated need not be asked for that beside.

use std::sync::{Mutex, PoisonError};

use model::{
    CountRequest, LabelsRequest, Listing, Metadata, SelectRequest, SeriesCounts, SeriesSet, SeriesSource, SourceError,
};
use storage::{Mark, Reader};

/// Reads through a reader.
pub(super) struct Marked<'a> {
    reader: &'a dyn Reader,
    seen: Mutex<Seen>,
}

/// How far the storage was at all reads together.
enum Seen {
    NotRead,
    Mark(Mark),
    /// A read did not tell, or the storage began anew between two.
    Unknown,
}

impl<'a> Marked<'a> {
    pub(super) fn new(reader: &'a dyn Reader) -> Self {
        Marked { reader, seen: Mutex::new(Seen::NotRead) }
    }

    /// How far the storage was before the first read; `None` where that is not known.
    pub(super) fn mark(self) -> Option<Mark> {
        match self.seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Seen::Mark(mark) => Some(mark),
            Seen::NotRead | Seen::Unknown => None,
        }
    }

    fn see(&self, mark: Option<Mark>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let older = match (&*seen, mark) {
            (Seen::NotRead, mark) => mark,
            (Seen::Mark(known), Some(mark)) => known.older(&mark),
            (Seen::Mark(_), None) | (Seen::Unknown, _) => None,
        };
        *seen = older.map_or(Seen::Unknown, Seen::Mark);
    }
}

impl SeriesSource for Marked<'_> {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let (set, mark) = self.reader.select_marked(request)?;
        self.see(mark);
        Ok(set)
    }

    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let counts = self.reader.count(request)?;
        if counts.is_some() {
            self.see(None);
        }
        Ok(counts)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.see(None);
        self.reader.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.see(None);
        self.reader.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.see(None);
        self.reader.metadata(family)
    }
}
