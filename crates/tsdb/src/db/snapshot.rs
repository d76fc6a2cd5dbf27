//! A copy of what is committed, while the engine runs.

use std::path::Path;

use super::{Db, lock};
use crate::Error;
use crate::offline::layout::{begin, commit, copy_file, link};

impl Db {
    /// Lays what is in blocks now out in another place, which must not exist; see [`crate::offline::layout`]. What a flush has not written
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
            committed.manifest.clone()
        };
        for (file, name) in to_copy {
            copy_file(&*file, &target, &name)?;
        }
        commit(&manifest, &target)?;
        Ok(manifest.blocks.len())
    }
}
