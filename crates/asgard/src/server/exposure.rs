//! Who can reach an address, and whether the server may listen on it.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use web::{Door, Identity};

use super::Config;

/// An address to listen on, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// Why an address was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0:?} is not an address to listen on")]
    NoAddress(String),
    #[error(
        "refusing to listen on {0}: others can reach that address, and no API key exists, so nobody could be told from anybody"
    )]
    NoKey(SocketAddr),
    #[error(
        "refusing to open {0} to everyone on this machine: with jobs.network = \"host\" every training script is on this machine, with environments.allow_source_builds every package's build, and no API key exists"
    )]
    OpenToScripts(SocketAddr),
}

impl Refused {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoAddress(_) => {
                "write HOST:PORT, such as 127.0.0.1:8000, [::1]:8000 or 0.0.0.0:8000".to_owned()
            }
            Self::OpenToScripts(_) => "make a key first: 'asgard keys create --name me --role admin' (with the same --data-dir); or leave jobs.network private and source builds off; or, where every script and package is trusted, pass --insecure-allow-anonymous".to_owned(),
            Self::NoKey(_) => "make a key first: 'asgard keys create --name me --role admin' (with the same --data-dir); or listen on 127.0.0.1; or, on a closed network only, pass --insecure-allow-anonymous".to_owned(),
        }
    }
}

impl Address {
    /// Reads `HOST:PORT`, preferring IPv4 where a name has both.
    ///
    /// # Errors
    /// [`Refused::NoAddress`] when it names none.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let refused = || Refused::NoAddress(text.to_owned());
        let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| refused())?.collect();
        let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
        first.copied().map(Self).ok_or_else(refused)
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        match self.0.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
            }
        }
    }
}

/// Who may come in at an address without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Loopback: everyone on this machine.
    Local,
    /// Anywhere else, or on loopback when code of users shares its network: nobody, because keys exist.
    Keyed,
    /// Anywhere else, by the flag whose name says what it is.
    OpenToAll,
}

impl Exposure {
    /// Decides for an address; `scripts_inside` tells that code of users shares the host's
    /// network, and so can reach its loopback addresses.
    ///
    /// # Errors
    /// [`Refused::NoKey`] for an address that others can reach, [`Refused::OpenToScripts`] for one
    /// that scripts can reach, when no key exists and the insecure flag is not given.
    pub fn of(
        address: Address,
        config: &Config,
        scripts_inside: bool,
        any_key: bool,
    ) -> Result<Self, Refused> {
        let private = address.is_loopback() && !scripts_inside;
        match (private, config.insecure_allow_anonymous, any_key) {
            (true, _, _) => Ok(Self::Local),
            (false, true, _) => Ok(Self::OpenToAll),
            (false, false, true) => Ok(Self::Keyed),
            (false, false, false) if address.is_loopback() => {
                Err(Refused::OpenToScripts(address.0))
            }
            (false, false, false) => Err(Refused::NoKey(address.0)),
        }
    }

    /// Opens a door as far as this exposure allows.
    pub fn open(self, door: Door, config: &Config) -> Door {
        let hosts = match config.url.as_deref().and_then(host_of) {
            Some(host) => [config.allowed_hosts.clone(), vec![host.to_owned()]].concat(),
            None => config.allowed_hosts.clone(),
        };
        let door = door.hosts(&hosts);
        match self {
            Self::Local => door.open_to(Identity::Local),
            Self::Keyed => door.any_address(),
            Self::OpenToAll => door.any_address().open_to(Identity::Local),
        }
    }
}

/// The host name of a URL.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.split(':').next().unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_needs_a_key_or_the_flag() {
        let public = Address::parse("0.0.0.0:8000").unwrap();
        let mut config = Config::default();
        assert!(matches!(
            Exposure::of(public, &config, false, false),
            Err(Refused::NoKey(_))
        ));
        assert_eq!(
            Exposure::of(public, &config, false, true).unwrap(),
            Exposure::Keyed
        );
        config.insecure_allow_anonymous = true;
        assert_eq!(
            Exposure::of(public, &config, false, false).unwrap(),
            Exposure::OpenToAll
        );
    }

    #[test]
    fn loopback_is_open_however_it_is_written() {
        for text in [
            "127.0.0.1:1",
            "127.8.9.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let address = Address::parse(text).unwrap();
            let exposure = Exposure::of(address, &Config::default(), false, false);
            assert_eq!(exposure.unwrap(), Exposure::Local, "{text}");
        }
        assert!(Address::parse("8000").is_err());
        assert!(!Address::parse("[::]:1").unwrap().is_loopback());
    }

    #[test]
    fn loopback_needs_a_key_where_scripts_can_reach_it() {
        let loopback = Address::parse("127.0.0.1:8000").unwrap();
        let config = Config::default();
        assert!(matches!(
            Exposure::of(loopback, &config, true, false),
            Err(Refused::OpenToScripts(_))
        ));
        let keyed = Exposure::of(loopback, &config, true, true).unwrap();
        assert_eq!(keyed, Exposure::Keyed);
    }
}
