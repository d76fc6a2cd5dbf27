//! Names of webhooks to addresses, without those that `rules::target` keeps webhooks away from.
//!
//! A name is judged when it is resolved and connected to, not when its channel is read: whoever owns the name can change what it leads
//! to. An address in the place of a name is judged when the channel is read, since nothing is resolved then.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rules::target::check_address;

/// The resolver of the system, guarded.
#[derive(Debug)]
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| check_address(address.ip()).is_ok()).collect();
            if allowed.is_empty() {
                return Err(
                    "leads only to addresses that webhooks are kept away from: link-local, metadata services".into()
                );
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolved(name: &str) -> Result<Vec<SocketAddr>, String> {
        let name: Name = name.parse().expect("a name");
        Guarded.resolve(name).await.map(Iterator::collect).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_link_local_address_is_not_resolved() {
        // The system's resolver takes an address for a name, which needs no network.
        let refused = resolved("169.254.169.254").await.expect_err("refused");
        assert!(refused.contains("link-local"), "{refused}");
        assert_eq!(resolved("127.0.0.1").await, Ok(vec!["127.0.0.1:0".parse().expect("an address")]));
    }
}
