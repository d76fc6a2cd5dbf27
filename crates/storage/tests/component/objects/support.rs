//! A storage over a log, with its blocks on a real S3 server behind a wire that fails where a test wants it to.

#[path = "../../../../runtime/tests/support/port.rs"]
mod port;
#[path = "../../../../runtime/tests/support/s3.rs"]
mod s3;
#[path = "../../../../runtime/tests/support/skips.rs"]
mod skips;
#[path = "../../../../runtime/tests/support/until.rs"]
mod until;

use std::path::Path;
use std::sync::{Arc, Once};

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig};

use s3::S3;
use skips::file_of;
use storage::objects::Keys;
pub(crate) use until::until;

use super::proxy::Proxy;
use crate::support::{NO_RETENTION, Running, try_start};

/// A time-out for tests in which none is meant to pass.
pub(crate) const LONG: &str = "30s";
/// A time-out for tests in which one is meant to pass: long enough for an answer of this machine that is meant to come.
pub(crate) const SHORT: &str = "1s";

/// A prefix on a server, with what is beside it.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) proxy: Proxy,
    prefix: String,
    store: AmazonS3,
    _server: Arc<S3>,
}

impl World {
    /// `None` where there is no server; the skip is reported.
    pub(crate) async fn new(test: &str) -> Option<World> {
        static TLS: Once = Once::new();
        TLS.call_once(|| rustls::crypto::ring::default_provider().install_default().expect("first in this process"));
        let bin = file_of(test, "S3_BIN")?;
        let server = tokio::task::spawn_blocking(|| S3::shared(bin)).await.expect("starts");
        let proxy = Proxy::start(&server.url).await;
        let store = AmazonS3Builder::new()
            .with_bucket_name(s3::BUCKET)
            .with_endpoint(&server.url)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_access_key_id(s3::KEY)
            .with_secret_access_key(s3::SECRET)
            .build()
            .expect("a client");
        let dir = tempfile::tempdir().expect("directory");
        Some(World { dir, proxy, prefix: test.to_owned(), store, _server: server })
    }

    /// The flags of a storage that is kept here.
    pub(crate) fn flags(&self, timeout: &str, more: &[&str]) -> Vec<String> {
        let objects = format!("s3://{}/{}", s3::BUCKET, self.prefix);
        let mut flags: Vec<String> = ["--storage-objects", &objects].map(str::to_owned).into();
        if !more.contains(&"--retention") {
            flags.extend(NO_RETENTION.iter().map(|flag| (*flag).to_owned()));
        }
        flags.extend(["--storage-objects-endpoint", &self.proxy.url].map(str::to_owned));
        flags.extend(["--storage-objects-timeout", timeout].map(str::to_owned));
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags
    }

    pub(crate) async fn start(&self, more: &[&str]) -> Running {
        self.start_with(self.dir.path(), LONG, more).await
    }

    pub(crate) async fn start_with(&self, dir: &Path, timeout: &str, more: &[&str]) -> Running {
        self.try_start(dir, timeout, more).await.expect("storage starts")
    }

    pub(crate) async fn try_start(&self, dir: &Path, timeout: &str, more: &[&str]) -> Result<Running, storage::Error> {
        let flags = self.flags(timeout, more);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let keys = Keys { id: s3::KEY.to_owned(), secret: s3::SECRET.to_owned() };
        try_start(dir, &flags, None, Some(keys)).await
    }

    /// The names of all objects that there are, below the prefix.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let prefix = format!("{}/replica-0", self.prefix);
        let listed = self.store.list(Some(&prefix.as_str().into())).try_collect::<Vec<_>>().await.expect("lists");
        let names = listed.into_iter().map(|object| object.location.to_string());
        let mut names: Vec<String> = names.map(|name| name[prefix.len() + 1..].to_owned()).collect();
        names.sort();
        names
    }

    pub(crate) async fn catalog(&self) -> String {
        let path = format!("{}/replica-0/catalog", self.prefix);
        let found = self.store.get(&path.as_str().into()).await.expect("there");
        String::from_utf8(found.bytes().await.expect("read").to_vec()).expect("text")
    }

    /// The sizes of the blocks that the catalog names.
    pub(crate) async fn object_bytes(&self) -> Vec<u64> {
        let catalog = self.catalog().await;
        let objects = catalog.lines().filter_map(|line| line.strip_prefix("object ")?.split(' ').nth(2));
        objects.map(|bytes| bytes.parse().expect("a number")).collect()
    }

    pub(crate) async fn remove_all(&self) {
        for name in self.objects().await {
            let path = format!("{}/replica-0/{name}", self.prefix);
            self.store.delete(&path.as_str().into()).await.expect("removed");
        }
    }

    pub(crate) async fn put(&self, name: &str, content: &'static [u8]) {
        let path = format!("{}/replica-0/{name}", self.prefix);
        self.store.put(&path.as_str().into(), content.into()).await.expect("written");
    }

    /// Blocks that lie in the directory.
    pub(crate) fn local_blocks(&self) -> usize {
        let names = std::fs::read_dir(self.dir.path().join("storage")).expect("read");
        names.filter(|name| name.as_ref().expect("read").path().extension().is_some_and(|e| e == "block")).count()
    }

    /// Of each block that counts, in the order of their time, whether it lies in the directory.
    pub(crate) fn blocks_from_old_to_new(&self) -> Vec<bool> {
        let dir = self.dir.path().join("storage");
        let manifest = std::fs::read_to_string(dir.join(tsdb::manifest::NAME)).expect("read");
        let mut blocks = tsdb::manifest::Summary::read(&manifest).expect("whole").blocks;
        blocks.sort_by(|(a, one), (b, other)| one.end_ms.cmp(&other.end_ms).then(a.cmp(b)));
        blocks.iter().map(|(name, _)| dir.join(name).exists()).collect()
    }

    pub(crate) fn empty_storage(&self) {
        std::fs::remove_dir_all(self.dir.path().join("storage")).expect("removed");
    }
}
