//! The client's side of storage: what query and alerting are handed.

mod changes;
mod fan_out;
mod freshness;
mod gather;
mod merge;
mod metrics;
mod node;
mod outlined;
mod poll;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use model::{
    Cardinality, CardinalityRequest, CountRequest, ExemplarsRequest, Listing, Positions, SelectRequest,
    SeriesExemplars, SeriesSet, SeriesSource, SourceError,
};
use prometheus::Registry;
use queue::BoxFuture;
use runtime::Token;
use tsdb::NewestSamples;

use crate::Error;
use crate::replica::Replica;

pub use changes::{Changes, ChangesRequest, Mark};
pub use fan_out::FanOut;
pub use remote::Remote;

/// A storage that is read: the engine in process, or storage nodes over the network.
pub trait Reader: SeriesSource + 'static {
    /// Resolves once everything that was acknowledged before the call can be seen by
    /// [`SeriesSource`]'s calls; fails with [`model::Kind::Unavailable`] when that takes longer than `timeout`.
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>>;

    /// As [`Reader::caught_up`], and the records at these offsets can be seen too, of the partitions that this storage has. Those that the log does not have yet are waited
    /// for; who fails to see them says how far it is. Of a partition of which no node is there the answers say that it is missing.
    fn reached<'a>(&'a self, positions: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Records that are acknowledged and not yet visible: the depth of the queue. Over the network, as it was about a second ago.
    fn backlog(&self) -> u64;

    /// How many series meet the request, and which labels they have. Blocks, as [`SeriesSource`]'s calls do.
    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError>;

    /// The exemplars that meet the request, ascending by series. Blocks, as [`SeriesSource`]'s calls do.
    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError>;

    /// The newest samples of the series that meet a count, with what tells these apart in every storage; `None` where [`SeriesSource::count`] is. Blocks, as it does.
    fn newest(&self, request: &CountRequest) -> Result<Option<NewestSamples>, SourceError> {
        let _ = request;
        Ok(None)
    }

    /// As [`SeriesSource::select`], with how far the storage was before, as a mark of [`Reader::changes`]; `None` unless [`Reader::marks_reads`].
    fn select_marked(&self, request: &SelectRequest) -> Result<(SeriesSet, Option<Mark>), SourceError> {
        Ok((self.select(request)?, None))
    }

    /// Whether a read tells how far the storage was, so that it need not be asked for that alone.
    fn marks_reads(&self) -> bool {
        false
    }

    /// What changed since a mark. One that is not of this storage as it is now tells nothing, so that all may have changed;
    /// a storage that keeps no account of it has no marks. Blocks, as [`SeriesSource`]'s calls do.
    fn changes(&self, request: &ChangesRequest) -> Changes {
        Changes::unknown(request.range)
    }
}

/// Where the storage is that is read.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The storage nodes, in the order of their replica numbers, such as http://weir-storage-0:9360,http://weir-storage-1:9360
    #[arg(long, env = "WEIR_STORAGE_URLS", value_name = "URL,…", value_delimiter = ',', required = true)]
    pub storage_urls: Vec<String>,

    /// How many of them hold each partition, as the nodes were told
    #[arg(long, env = "WEIR_STORAGE_COPIES", default_value_t = 1, value_name = "N")]
    pub storage_copies: u32,
}

/// A reader of these nodes; none has to be there yet. Must be called on a runtime, on which it waits: [`SeriesSource`]'s calls on it block, and
/// so must not be made on the runtime's own threads.
pub fn connect(args: &Args, token: Option<Token>, registry: &Registry) -> Result<Arc<dyn Reader>, Error> {
    match args.storage_urls.as_slice() {
        [url] if args.storage_copies == 1 => Ok(Arc::new(Remote::new(url, token, registry)?)),
        urls => Ok(Arc::new(FanOut::new(urls, args.storage_copies, token, registry)?)),
    }
}

/// The nodes of these addresses, all that is wrong with them in one message.
fn nodes(
    urls: &[String],
    copies: u32,
    token: Option<Token>,
    changes_timeout: Duration,
    metrics: &metrics::Metrics,
) -> Result<Vec<Arc<node::Node>>, Error> {
    let of = u32::try_from(urls.len()).unwrap_or(u32::MAX);
    let mut problems = Vec::new();
    if let Err(error) = (Replica { number: 0, of, copies }).check() {
        problems.push(format!("{error}, which are as many as there are addresses in --storage-urls"));
    }
    let mut nodes = Vec::new();
    for (number, url) in (0..).zip(urls) {
        let replica = Replica { number, of, copies };
        match node::Node::new(url, replica, token.clone(), changes_timeout, metrics) {
            Ok(node) => nodes.push(Arc::new(node)),
            Err(reason) => problems.push(reason),
        }
    }
    if problems.is_empty() { Ok(nodes) } else { Err(Error::Arguments(problems.join("; "))) }
}
