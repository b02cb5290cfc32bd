//! Where a webhook may lead.
//!
//! The name of a webhook's host is resolved once for each attempt, by the resolver below, and the
//! connection goes to the addresses that it found good: a name that means one address to the check
//! and another to the connection (DNS rebinding) has nothing to gain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::Config;
use crate::error::Error;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// An address that no webhook leads to.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is at {address}, in the inner network; webhooks.allow_private_addresses lets webhooks go there"
)]
pub(crate) struct Blocked {
    host: String,
    address: IpAddr,
}

/// Checks a webhook's URL as far as its text tells.
///
/// # Errors
/// [`Error::Invalid`], saying what is wrong.
pub(crate) fn check(url: &str, config: &Config) -> Result<Url, Error> {
    let refused = |why: String| Error::Invalid(format!("Invalid webhook URL: {why}"));
    if url.len() > MAX_URL_BYTES {
        return Err(refused(format!("it is longer than {MAX_URL_BYTES} bytes")));
    }
    if url.trim().is_empty() {
        let message = "Webhook URL cannot be empty or just whitespace";
        return Err(Error::Invalid(message.to_owned()));
    }
    let parsed = Url::parse(url.trim()).map_err(|error| refused(error.to_string()))?;
    match parsed.scheme() {
        "https" => {}
        "http" if config.allow_http => {}
        "http" => {
            let why = "its scheme is http, which anybody on the way reads; use https, or set webhooks.allow_http";
            return Err(refused(why.to_owned()));
        }
        other => {
            return Err(Error::Invalid(format!(
                "Invalid webhook URL scheme: {other}; use https"
            )));
        }
    }
    let host = parsed
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| refused("it names no host".to_owned()))?;
    if let Some(address) = literal(host)
        && !config.allow_private_addresses
        && !is_public(address)
    {
        let host = host.to_owned();
        return Err(refused(Blocked { host, address }.to_string()));
    }
    Ok(parsed)
}

/// An address written as itself; the URL parser has made `0x7f.1` and the like plain before.
fn literal(host: &str) -> Option<IpAddr> {
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    host.parse().ok()
}

/// Whether an address belongs to the public network.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = v6.segments();
    let low = || {
        let [.., a, b] = parts;
        Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))
    };
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] if v6 != Ipv6Addr::LOCALHOST && !v6.is_unspecified() => {
            Some(low())
        }
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(low()),
        [0x2002, a, b, ..] => Some(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))),
        _ => None,
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        // Shared by carriers (RFC 6598), for protocols (RFC 6890), for benchmarks (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let parts = v6.segments();
    // What is in use on the public network is 2000::/3.
    let global = parts[0] & 0xe000 == 0x2000;
    let documentation = parts[0] == 0x2001 && parts[1] == 0xdb8;
    // Teredo and other tunnels of 2001::/23.
    let tunnel = parts[0] == 0x2001 && parts[1] < 0x200;
    global && !documentation && !tunnel
}

/// Finds the addresses of a name, and gives them only when webhooks may go to all of them.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let addresses = checked(&host, found, allow_private)?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

fn checked(
    host: &str,
    found: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Blocked> {
    let addresses: Vec<SocketAddr> = found.collect();
    let inner = addresses.iter().find(|address| !is_public(address.ip()));
    match inner {
        Some(address) if !allow_private => Err(Blocked {
            host: host.to_owned(),
            address: address.ip(),
        }),
        _ => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_inner_network_are_known_in_every_dress() {
        for inner in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1:a00:0:100:808:808",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
        for outer in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "2002:808:808::",
        ] {
            assert!(is_public(outer.parse().unwrap()), "{outer}");
        }
    }

    #[test]
    fn urls_that_lead_inside_are_refused_however_they_are_written() {
        let config = Config::default();
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://",
            "x",
            "",
            "https:///x y",
        ] {
            assert!(check(url, &config).is_err(), "{url}");
        }
        assert!(check("https://example.com/hook?a=b", &config).is_ok());
        let open = Config {
            allow_private_addresses: true,
            allow_http: true,
            ..config
        };
        assert!(check("http://127.0.0.1:9000/x", &open).is_ok());
    }

    #[test]
    fn a_name_with_one_inner_address_is_not_connected_to() {
        let found = ["1.1.1.1:0", "10.0.0.1:0"].map(|a| a.parse().unwrap());
        assert!(checked("rebind.example", found.into_iter(), false).is_err());
        assert_eq!(
            checked("rebind.example", found.into_iter(), true)
                .unwrap()
                .len(),
            2
        );
    }
}
