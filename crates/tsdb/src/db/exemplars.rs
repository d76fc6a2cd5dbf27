//! Exemplars: their file, which a flush writes anew when they have changed, and what is read of them.

use model::{ExemplarsRequest, Listing, SeriesExemplars, SourceError};

use super::{Db, EXEMPLARS, Manifest, lock};
use crate::Error;
use crate::deletes::Delete;
use crate::disk::{self, Disk};
use crate::exemplars::{Entry, Exemplars, file};

/// The exemplars with what is known of their file.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) all: Exemplars,
    /// As of which change the file is.
    filed: u64,
    /// The file that could not be read, and what to say of it.
    lost: Option<(String, String)>,
}

/// A file that was written and is not committed.
#[derive(Debug)]
pub(super) struct Filed {
    /// `None` where there is nothing to keep.
    name: Option<String>,
    version: u64,
}

impl Kept {
    /// Reads the file that a manifest names. One that cannot be read stays where it is, until a flush puts another one in its place.
    pub(super) fn open(disk: &dyn Disk, name: Option<&str>, max: usize) -> Kept {
        let (mut all, mut lost) = (Exemplars::new(max), None);
        if let Some(name) = name {
            match file::read(disk, name) {
                Ok((_, series)) => series.iter().for_each(|(series, own)| all.add(series.as_ref(), own)),
                Err(error) => lost = Some((name.to_owned(), format!("exemplars are missing: {error}"))),
            }
        }
        Kept { filed: all.version(), all, lost }
    }
}

impl Db {
    /// The exemplars that a question asks for, by series.
    pub fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        let kept = lock(&self.exemplars);
        let items = kept.all.select(request, &self.floors())?;
        Ok(Listing { items, warnings: kept.lost.iter().map(|(_, warning)| warning.clone()).collect() })
    }

    /// What is to be said of the file of exemplars, where it could not be read.
    pub fn exemplars_warning(&self) -> Option<String> {
        lock(&self.exemplars).lost.as_ref().map(|(_, warning)| warning.clone())
    }

    /// Writes the exemplars to a new file where they have changed; durable when this returns. They may be newer than what a flush froze: what is read from
    /// the log again is the same again.
    pub(super) fn file_exemplars(&self) -> Result<Option<Filed>, Error> {
        let kept = lock(&self.exemplars);
        if kept.all.version() == kept.filed {
            return Ok(None);
        }
        let bytes = (kept.all.len() > 0).then(|| file::encode(kept.all.iter()));
        let (version, lost) = (kept.all.version(), kept.lost.as_ref().map(|(name, _)| name.clone()));
        drop(kept);
        if let Some(lost) = lost {
            // The new one takes its place, and it may be all that is left of somebody's data.
            match self.disk.rename(&lost, &format!("{lost}.damaged")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(disk::io(format!("renaming {}", self.disk.path(&lost).display()))(error));
                }
                _ => {}
            }
        }
        Ok(Some(Filed { name: self.write_exemplars(bytes.as_deref())?, version }))
    }

    fn write_exemplars(&self, bytes: Option<&[u8]>) -> Result<Option<String>, Error> {
        let Some(bytes) = bytes else { return Ok(None) };
        let name = self.numbered(EXEMPLARS);
        let written = file::write(&*self.disk, &name, bytes).and_then(|()| disk::sync(&*self.disk));
        written.inspect_err(|_| self.discard([name.clone()]))?;
        Ok(Some(name))
    }

    /// The file was committed.
    pub(super) fn filed(&self, filed: &Filed) {
        let mut kept = lock(&self.exemplars);
        (kept.filed, kept.lost) = (filed.version, None);
    }

    /// Writes a file without what a deletion takes, where it takes anything: that is returned too, to be removed once the file is committed.
    pub(super) fn file_without(&self, delete: &Delete) -> Result<Option<(Filed, Vec<Entry>)>, Error> {
        let kept = lock(&self.exemplars);
        let gone = kept.all.touched(delete);
        if gone.is_empty() {
            return Ok(None);
        }
        let mut left = kept.all.iter().filter(|entry| gone.binary_search(entry).is_err()).peekable();
        let bytes = left.peek().is_some().then(|| file::encode(left));
        let version = kept.all.version();
        drop(kept);
        Ok(Some((Filed { name: self.write_exemplars(bytes.as_deref())?, version }, gone)))
    }

    /// Removes what a deletion took, whose file was committed. The next flush writes them again, with what came meanwhile.
    pub(super) fn removed(&self, gone: &[Entry]) {
        lock(&self.exemplars).all.remove(gone);
    }
}

impl Filed {
    /// Names the file in a manifest.
    pub(super) fn commit_to(&self, manifest: &mut Manifest) {
        manifest.exemplars.clone_from(&self.name);
    }
}
