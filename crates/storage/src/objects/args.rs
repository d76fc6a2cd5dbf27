//! Flags, and the client that they make.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, RetryConfig};

use super::bucket::Bucket;
use super::metrics::Metrics;
use crate::{Error, Replica};

/// How long connecting may take. It is a part of the time-out of a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Configuration of object storage.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Keep blocks in S3-compatible object storage too; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the machine's role
    #[arg(long, env = "WEIR_STORAGE_OBJECTS", value_name = "s3://BUCKET/PREFIX")]
    pub storage_objects: Option<Address>,

    /// Address of the object storage, where it is not Amazon's; AWS_ENDPOINT_URL without it
    #[arg(long, env = "WEIR_STORAGE_OBJECTS_ENDPOINT", value_name = "URL", requires = "storage_objects")]
    pub storage_objects_endpoint: Option<String>,

    /// Region of the bucket; AWS_REGION without it, else us-east-1
    #[arg(long, env = "WEIR_STORAGE_OBJECTS_REGION", value_name = "REGION", requires = "storage_objects")]
    pub storage_objects_region: Option<String>,

    /// How long an answer of the object storage may take; each request is tried four times
    #[arg(
        long,
        env = "WEIR_STORAGE_OBJECTS_TIMEOUT",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = crate::component::parse_duration
    )]
    pub storage_objects_timeout: Duration,

    /// Size of the blocks on the local disk beyond which those that are in object storage leave it, the oldest first; without it all stay
    #[arg(long, env = "WEIR_STORAGE_CACHE_BYTES", value_name = "BYTES", requires = "storage_objects")]
    pub storage_cache_bytes: Option<u64>,

    /// Keys that are not those of the environment; set by the program that starts it.
    #[arg(skip)]
    pub keys: Option<Keys>,
}

/// Who asks the object storage.
#[derive(Clone)]
pub struct Keys {
    /// As `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// As `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A bucket, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    bucket: String,
    prefix: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "must be s3://BUCKET/PREFIX, such as s3://metrics/weir";
        let (bucket, prefix) = text.strip_prefix("s3://").ok_or(example)?.split_once('/').ok_or(example)?;
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || prefix.is_empty() {
            return Err(example.to_owned());
        }
        Path::parse(prefix).map_err(|e| format!("{prefix} cannot be a prefix: {e}"))?;
        Ok(Address { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl Args {
    /// The part of the bucket that a replica has; `None` where blocks are on the local disk alone. Asks nothing of it yet.
    pub(crate) fn bucket(&self, replica: Replica, metrics: Metrics) -> Result<Option<Bucket>, Error> {
        let Some(Address { bucket, prefix }) = &self.storage_objects else { return Ok(None) };
        let timeout = self.storage_objects_timeout;
        let client = ClientOptions::new()
            .with_allow_http(true)
            // That of each request is the caller's, who tells it from other failures.
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT.min(timeout));
        // Before what the environment says.
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client);
        if let Some(endpoint) = &self.storage_objects_endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.storage_objects_region {
            builder = builder.with_region(region);
        }
        if let Some(Keys { id, secret }) = &self.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() }).build();
        let store = store.map_err(|e| Error::Arguments(format!("--storage-objects: {e}")))?;
        let part = format!("replica-{}", replica.number);
        let name = format!("s3://{bucket}/{prefix}/{part}");
        let prefix = Path::from(prefix.as_str()).join(part);
        Ok(Some(Bucket::new(Arc::new(store), prefix, name, timeout, metrics)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_prefix() {
        let address = |bucket: &str, prefix: &str| Ok(Address { bucket: bucket.into(), prefix: prefix.into() });
        assert_eq!("s3://b/p".parse(), address("b", "p"));
        assert_eq!("s3://b/p/q/".parse(), address("b", "p/q"));
        for text in ["b/p", "s3://b", "s3://b/", "s3:///p", "http://b/p"] {
            assert!(text.parse::<Address>().expect_err(text).contains("must be s3://BUCKET/PREFIX"), "{text}");
        }
        assert!("s3://b/p//q".parse::<Address>().expect_err("refused").contains("cannot be a prefix"));
    }
}
