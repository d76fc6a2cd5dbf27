//! Whose a prefix of the bucket is.
//!
//! A directory that writes to a prefix has an id, in its file `objects`, which the catalog repeats. A start takes the prefix for its process, by a conditional write:
//! the former process, if it still runs, finds that at its next one. Refused is what would lose something: a directory beside another one's prefix, a
//! directory that is older than the catalog, and an empty prefix beside a directory that had been written to one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::Budget;
use tokio::runtime::Handle;
use tsdb::disk::{self, Disk as _, Local};
use tsdb::manifest::{self, Summary};

use super::bucket::{Bucket, Failure, Swap};
use super::catalog::{self, Catalog};
use super::disk::Tiered;
use super::metrics::Metrics;
use super::mirror::State;
use crate::{Error, Replica};

/// The file of a directory that says where its blocks are too.
const FILE: &str = tsdb::disk::ELSEWHERE;
const VERSION: &str = "weir-objects 1";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    owner: String,
    /// The last process that is known to have had the prefix; 0 before there was one.
    epoch: u64,
}

/// What was opened: the disk of the engine, and what [`super::Mirror`] goes on from.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(super) disk: Arc<Tiered>,
    pub(super) bucket: Arc<Bucket>,
    pub(super) state: State,
    pub(super) metrics: Metrics,
    /// Size of local blocks; `None` for no bound.
    pub(super) cache_bytes: Option<u64>,
}

impl Claimed {
    /// The disk of the engine.
    pub(crate) fn disk(&self) -> Arc<dyn tsdb::disk::Disk> {
        self.disk.clone()
    }
}

/// Takes a replica's prefix for this process and a directory, which gets the manifest of the catalog where it has none.
pub(crate) async fn open(
    bucket: Bucket,
    dir: &Path,
    replica: Replica,
    cache_bytes: Option<u64>,
    (metrics, memory): (Metrics, &Budget),
) -> Result<Claimed, Error> {
    let (bucket, path) = (Arc::new(bucket), dir.to_owned());
    let (local, here) = blocking(move || {
        let local = Local::open(&path)?;
        let here = Here::read(&local)?;
        Ok((local, here))
    })
    .await?;
    let there = match bucket.get(catalog::KEY).await {
        Ok((content, version)) => {
            let catalog = Catalog::read(&content).ok_or_else(|| {
                Error::Directory(format!("{} is not a catalog of storage, or damaged", bucket.name(catalog::KEY)))
            })?;
            Some((catalog, version))
        }
        Err(Failure::Missing(_)) => None,
        Err(failure) => return Err(failure.into()),
    };
    let identity = here.check(there.as_ref().map(|(catalog, _)| catalog), &bucket, &local, replica)?;
    let local = write_identity(local, identity.clone()).await?;
    let next = next(identity, there.as_ref().map(|(catalog, _)| catalog), replica);
    let version = match bucket.swap(catalog::KEY, &next.print(), there.as_ref().map(|(_, v)| v.as_str())).await? {
        Swap::Done(version) => version,
        Swap::Other(found) => return Err(taken(&bucket, found.as_ref().map(|(content, _)| &content[..]))),
    };
    let (local, identity) = (local, Identity { owner: next.owner.clone(), epoch: next.epoch });
    let local = match &here.summary {
        None if !next.manifest.is_empty() => take_over(local, next.manifest.clone(), replica).await?,
        _ => local,
    };
    let local = write_identity(local, identity).await?;
    tracing::info!(
        objects = bucket.name(""),
        epoch = next.epoch,
        blocks = next.objects.len(),
        from_catalog = here.summary.is_none() && !next.manifest.is_empty(),
        "object storage is this storage's"
    );
    let disk = Arc::new(Tiered::new(local, bucket.clone(), Handle::current(), memory, metrics.clone()));
    disk.set_objects(next.objects.clone());
    Ok(Claimed { disk, bucket, state: State::new(next, version), metrics, cache_bytes })
}

/// Whether a directory was written to object storage, so that blocks of it may be there alone.
pub(crate) fn may_lack_blocks(dir: &Path) -> bool {
    let text = std::fs::read_to_string(dir.join(FILE));
    text.is_ok_and(|text| parse(&text).is_none_or(|identity| identity.epoch > 0))
}

/// What an error says of somebody else's catalog.
pub(super) fn taken(bucket: &Bucket, found: Option<&[u8]>) -> Error {
    let name = bucket.name("");
    Error::Directory(match found.map(Catalog::read) {
        Some(Some(Catalog { owner, epoch, .. })) => format!(
            "{name} was taken by another process of storage (owner {owner}, epoch {epoch}): one writes there. Give each its own prefix"
        ),
        Some(None) => format!("{name}/{} was replaced by something that is no catalog of storage", catalog::KEY),
        None => format!("{name}/{} was removed by somebody else", catalog::KEY),
    })
}

/// What a directory has.
#[derive(Debug)]
struct Here {
    identity: Option<Identity>,
    /// Of its manifest.
    summary: Option<Summary>,
    has_blocks: bool,
}

impl Here {
    fn read(local: &Local) -> Result<Here, Error> {
        let text = |name| match local.read(name) {
            Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Directory(format!("reading {}: {e}", local.path(name).display()))),
        };
        let unreadable = |name| Error::Directory(format!("{} is damaged", local.path(name).display()));
        let identity = text(FILE)?.map(|text| parse(&text).ok_or_else(|| unreadable(FILE))).transpose()?;
        let summary = text(manifest::NAME)?.map(|text| Summary::read(&text).ok_or_else(|| unreadable(manifest::NAME)));
        let names = local.list().map_err(|e| Error::Directory(format!("reading {}: {e}", local.path("").display())))?;
        let has_blocks = names.iter().any(|name| name.ends_with(".block"));
        Ok(Here { identity, summary: summary.transpose()?, has_blocks })
    }

    /// Whose the prefix is from now on, or why it cannot be this directory's.
    fn check(
        &self,
        there: Option<&Catalog>,
        bucket: &Bucket,
        local: &Local,
        replica: Replica,
    ) -> Result<Identity, Error> {
        let (dir, name) = (local.path("").display().to_string(), bucket.name(""));
        let refuse = |why: String| Err(Error::Directory(why));
        let own = self.identity.clone().unwrap_or_else(|| Identity { owner: random(), epoch: 0 });
        if let Some(catalog) = there.filter(|catalog| catalog.replica != replica) {
            return refuse(format!("{name} holds the partitions of {}, and this is {replica}", catalog.replica));
        }
        let Some(summary) = &self.summary else {
            if self.has_blocks {
                return refuse(format!("{dir} has blocks and no manifest; move it away to begin with what {name} has"));
            }
            return Ok(own);
        };
        match there {
            None if own.epoch > 0 => refuse(format!(
                "{dir} was written to object storage, and there is nothing at {name}. If blocks are to be written there anew, and none of them \
                 was there alone, remove {dir}/{FILE}"
            )),
            None => Ok(own),
            Some(catalog) if catalog.owner != own.owner => refuse(format!(
                "{name} belongs to another storage (owner {}, epoch {}), and {dir} has data of its own. Give it a prefix of its own, or move the directory \
                 away to begin with what is there",
                catalog.owner, catalog.epoch
            )),
            Some(catalog) if Summary::read(&catalog.manifest).is_some_and(|m| m.next_block > summary.next_block) => {
                refuse(format!("{dir} is older than what {name} has of it; move it away to begin with what is there"))
            }
            Some(_) => Ok(own),
        }
    }
}

/// The catalog of this process.
fn next(identity: Identity, there: Option<&Catalog>, replica: Replica) -> Catalog {
    let (epoch, objects, manifest) = there.map_or((0, BTreeMap::new(), String::new()), |catalog| {
        (catalog.epoch, catalog.objects.clone(), catalog.manifest.clone())
    });
    let epoch = epoch.max(identity.epoch) + 1;
    Catalog { owner: identity.owner, session: random(), epoch, sequence: 0, replica, objects, manifest }
}

/// Makes an empty directory one with the catalog's manifest; durable when this returns.
async fn take_over(local: Local, manifest: String, replica: Replica) -> Result<Local, Error> {
    blocking(move || {
        replica.claim(&local, false)?;
        write(&local, manifest::NAME, &manifest)?;
        Ok(local)
    })
    .await
}

async fn write_identity(local: Local, Identity { owner, epoch }: Identity) -> Result<Local, Error> {
    blocking(move || {
        write(&local, FILE, &format!("{VERSION}\nowner {owner}\nepoch {epoch}\n"))?;
        Ok(local)
    })
    .await
}

fn parse(text: &str) -> Option<Identity> {
    let words: Vec<&str> = text.strip_prefix(VERSION)?.split_whitespace().collect();
    let ["owner", owner, "epoch", epoch] = *words else { return None };
    Some(Identity { owner: owner.to_owned(), epoch: epoch.parse().ok()? })
}

/// Replaces a small file; durable when this returns.
fn write(local: &Local, name: &str, content: &str) -> Result<(), Error> {
    disk::replace_and_sync(local, name, content.as_bytes())
        .map_err(|e| Error::Directory(format!("writing {}: {e}", local.path(name).display())))
}

/// A name that nothing else has.
fn random() -> String {
    format!("{:032x}", fastrand::u128(..))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Start(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn identity_is_golden() {
        let dir = tempfile::tempdir().expect("directory");
        let local = Local::open(dir.path()).expect("opens");
        let identity = Identity { owner: "00ff".to_owned(), epoch: 12 };
        write_identity(local, identity.clone()).await.expect("written");
        let text = std::fs::read_to_string(dir.path().join("objects")).expect("read");
        assert_eq!(text, "weir-objects 1\nowner 00ff\nepoch 12\n");
        assert_eq!(parse(&text), Some(identity));
        assert_eq!(parse("weir-objects 2\nowner 00ff\nepoch 12\n"), None);
    }
}
