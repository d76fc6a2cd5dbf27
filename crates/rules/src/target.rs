//! Where a webhook may lead: not to link-local addresses, nor to those at which clouds hand out credentials.
//!
//! Whoever may create a channel chooses an address that alerting then calls from inside the cluster, so an address that gives secrets to
//! whoever asks is refused. Addresses of the cluster and of the machine are allowed: receivers live there. A name is judged by what it
//! resolves to, so delivery asks [`check_address`] of every address that it is about to connect to; [`check_url`] finds at
//! apply what can be found without asking a resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of metadata services, which some clouds resolve to addresses of their own.
const METADATA_NAMES: [&str; 4] =
    ["metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];
/// Metadata services outside of the link-local range: Alibaba's, Azure's wire server, Oracle's.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Amazon's and Google's over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)];

/// Whether a URL may be called as far as its text tells; the reason does not repeat the text, which may be secret.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    const SHAPE: &str = "must be http://HOST… or https://HOST…";
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(SHAPE)?;
    // A backslash is a slash to the parsers of browsers, and to the one of the client.
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(six) => six.split_once(']').map(|(six, _)| six).ok_or(SHAPE)?,
        None => host.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(SHAPE);
    }
    check_host(host)
}

/// Whether a host, a name or an address in any notation, may be called.
pub fn check_host(host: &str) -> Result<(), &'static str> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if METADATA_NAMES.contains(&name.as_str()) {
        return Err("leads to a metadata service, which hands out credentials");
    }
    match name.parse::<IpAddr>().ok().or_else(|| numbers(&name).map(IpAddr::V4)) {
        Some(address) => check_address(address),
        None => Ok(()),
    }
}

/// Whether an address may be connected to. To be asked of every address that a name resolved to, and of those of redirects.
pub fn check_address(address: IpAddr) -> Result<(), &'static str> {
    let refused = match address {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => is_refused_v6(v6),
    };
    if refused {
        Err("leads to a link-local address or a metadata service, which hands out credentials")
    } else {
        Ok(())
    }
}

fn is_refused_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || METADATA_V4.contains(&address)
}

fn is_refused_v6(address: Ipv6Addr) -> bool {
    // A v4 address in one of v6: mapped, compatible, and behind NAT64 (RFC 6052); behind 6to4 (RFC 3056) it is in front.
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let inner = match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(embedded(g, h)),
        (0x2002, ..) => Some(embedded(b, c)),
        _ => None,
    };
    address.is_unicast_link_local() || METADATA_V6.contains(&address) || inner.is_some_and(is_refused_v4)
}

/// An IPv4 address in the notations of inet_aton, which resolvers and URL parsers take too: `2852039166`, `0xa9.254.43518`.
fn numbers(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(&part[1..], 8).ok(),
        None => part.parse().ok(),
    };
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let bits = 32 - 8 * u32::try_from(first.len()).ok().filter(|n| *n < 4)?;
    let fits = first.iter().all(|part| *part < 256) && u64::from(*last) < 1u64 << bits;
    let high = first.iter().enumerate().fold(0u32, |sum, (n, part)| sum | (part << (24 - 8 * n)));
    fits.then(|| Ipv4Addr::from(high | last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_hand_out_credentials_are_refused_in_every_notation() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://user:pw@169.254.169.254:80/",
            "http://2852039166/",
            "http://0xA9FEA9FE",
            "http://0251.254.0xa9.254/",
            "http://169.254.43518?x",
            "https://[fe80::1]/",
            "http://[::ffff:169.254.1.1]:8080",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fd00:ec2::254]/",
            "http://metadata.google.internal./x",
            "http://METADATA/x",
            "http://169.254.169.254\\@example.com/",
            "http://100.100.100.200/",
        ] {
            let reason = check_url(url).expect_err(url);
            assert!(reason.contains("credentials"), "{url}: {reason}");
        }
    }

    #[test]
    fn receivers_in_and_outside_of_the_cluster_are_allowed() {
        for url in [
            "http://sink.shop.svc:8080/hook",
            "https://hooks.example.com/a?b=c#d",
            "http://127.0.0.1:9",
            "http://10.0.0.1",
            "http://[::1]:80/",
            "http://[fd00::1]/",
            "http://169-254.example",
            "http://168.63.129.17/",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in
            ["", "ftp://h", "http://", "http:///x", "https://?q", "http://a b", "http://[::1", "http://u@/", "h:80"]
        {
            assert!(check_url(url).expect_err(url).starts_with("must be http"), "{url}");
        }
    }
}
