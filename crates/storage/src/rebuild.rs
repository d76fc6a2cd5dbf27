//! Blocks that are damaged are written again from the log, while it still has all that they were written from.

use std::collections::HashSet;

use model::{LabelsRef, Metadata, Samples};
use queue::payload::{Decoder, Visitor};
use queue::{BoxFuture, Record};
use runtime::Shutdown;
use tokio::runtime::Handle;
use tsdb::{Lost, Rebuild};

use crate::Error;
use crate::apply::FETCH_WAIT;
use crate::keep::Keeper;

/// Payload that is fetched at once: one partition is read at a time, and not often.
const FETCH_BYTES: usize = 1 << 20;

/// Adds what a record holds to a block.
struct Again<'a, 'b>(&'a mut Rebuild<'b>);

impl Visitor for Again<'_, '_> {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        self.0.append(labels, samples);
    }

    fn metadata(&mut self, _metadata: &Metadata) {}
}

/// How a try ended that met no error.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Written,
    /// The log does not have all of it.
    NotInTheLog,
    /// The process is to end.
    Stopped,
}

impl Keeper {
    /// Tries to write again what is damaged. `told` are the blocks of which it was said that it cannot be.
    pub(crate) fn rebuild_lost(&self, told: &mut HashSet<String>, shutdown: &mut Shutdown, handle: &Handle) {
        for lost in self.db.lost() {
            match self.rebuild(&lost, shutdown, handle) {
                Ok(End::Written) => {
                    self.metrics.rebuilt.inc();
                    self.succeeded("rebuild");
                    tracing::info!(block = lost.block, "wrote a damaged block again from the log");
                }
                Ok(End::NotInTheLog) if told.insert(lost.block.clone()) => {
                    tracing::error!(
                        block = lost.block,
                        "a block is damaged, and the log no longer has all that it was written from"
                    );
                }
                Ok(End::NotInTheLog) => {}
                Ok(End::Stopped) => return,
                Err(error) => self.failed("rebuild", &error, crate::keep::EXPIRE_INTERVAL),
            }
            self.metrics.stats(self.db.stats());
        }
    }

    fn rebuild(&self, lost: &Lost, shutdown: &mut Shutdown, handle: &Handle) -> Result<End, Error> {
        let positions = self.db.positions();
        for (partition, offsets) in &lost.records {
            let Some(bounds) = wait(self.log.bounds(*partition), shutdown, handle)? else { return Ok(End::Stopped) };
            // A log that ends before what was read of it is another one.
            let end = positions.get(partition).map_or(offsets.end, |position| offsets.end.max(*position));
            if offsets.start < bounds.start || end > bounds.end {
                return Ok(End::NotInTheLog);
            }
        }
        let Some(mut rebuild) = self.db.rebuild(&lost.block) else { return Ok(End::NotInTheLog) };
        let mut decoder = Decoder::default();
        for (partition, offsets) in &lost.records {
            let mut next = offsets.start;
            while next < offsets.end {
                let fetch = self.log.fetch(*partition, next, FETCH_BYTES, FETCH_WAIT);
                let Some(records) = wait(fetch, shutdown, handle)? else { return Ok(End::Stopped) };
                let Some(last) = records.last() else { return Ok(End::NotInTheLog) };
                next = last.offset + 1;
                for Record { payload, offset, .. } in records.iter().filter(|record| record.offset < offsets.end) {
                    // One that cannot be read was skipped when it was consumed, too, after what could be read of it.
                    let _ = decoder.decode(payload, &mut Again(&mut rebuild));
                    rebuild.end_record(*partition, *offset)?;
                }
            }
        }
        Ok(if rebuild.finish()? { End::Written } else { End::NotInTheLog })
    }
}

/// What the log answers; `None` if the process is to end.
fn wait<T>(
    answer: BoxFuture<'_, Result<T, queue::Error>>,
    shutdown: &mut Shutdown,
    handle: &Handle,
) -> Result<Option<T>, Error> {
    handle.block_on(async {
        tokio::select! {
            () = shutdown.asked() => Ok(None),
            answer = answer => Ok(Some(answer?)),
        }
    })
}
