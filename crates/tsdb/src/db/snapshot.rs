//! A copy of what is committed, while the engine runs.

use std::path::Path;

use super::{Db, lock};
use crate::Error;
use crate::offline::layout::{begin, commit, copy_file, link};

impl Db {
    /// Lays what is in blocks now, and the exemplars that were written with them, out in another place, which must not exist; see [`crate::offline::layout`]. What a flush has not written
    /// yet is not in it. Returns how many blocks are. When it fails, what it has laid out is of no use and can be removed.
    ///
    /// The engine must be of a directory of this machine.
    pub fn snapshot(&self, to: &Path) -> Result<usize, Error> {
        let target = begin(to)?;
        let mut to_copy = Vec::new();
        let view = self.view();
        let is_lost =
            |name: &str| view.quarantined.iter().any(|(entry, _)| entry.name == name) && !self.disk.path(name).exists();
        let manifest = {
            // Files are removed after the commit that does not name them any more, so as long as nobody commits they are there.
            let committed = lock(&self.committed);
            for entry in &committed.manifest.blocks {
                match link(&*self.disk, &target, &entry.name) {
                    Ok(file) => to_copy.extend(file.map(|file| (file, entry.name.clone()))),
                    // One that was lost is in quarantine, here as there.
                    Err(_) if is_lost(&entry.name) => {}
                    Err(error) => return Err(error),
                }
            }
            let mut manifest = committed.manifest.clone();
            if self.exemplars_warning().is_some() {
                // What cannot be read here is no better there.
                manifest.exemplars = None;
            }
            if let Some(name) = &manifest.exemplars {
                to_copy.extend(link(&*self.disk, &target, name)?.map(|file| (file, name.clone())));
            }
            manifest
        };
        for (file, name) in to_copy {
            copy_file(&*file, &target, &name)?;
        }
        commit(&manifest, &target)?;
        Ok(manifest.blocks.len())
    }
}
