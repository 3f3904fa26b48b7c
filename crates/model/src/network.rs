//! Where a subjob may connect to, and how fast (§4.3.3.4).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::ByteSize;

/// Most endpoints that one subjob may be allowed.
pub const MAX_ENDPOINTS: usize = 64;

/// What of the network a subjob reaches: nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAccess {
    /// TCP endpoints that it may connect to.
    pub allow: Vec<Endpoint>,
    /// Bytes per second over all its connections, each way; unbounded if absent.
    pub rate: Option<ByteSize>,
}

impl NetworkAccess {
    /// The least that a client's owner must permit for it.
    pub fn reach(&self) -> Reach {
        let reach = |endpoint: &Endpoint| match endpoint.host.place() {
            Place::Near => Reach::Nearby,
            Place::Elsewhere | Place::Nowhere(_) => Reach::Elsewhere,
        };
        self.allow.iter().map(reach).max().unwrap_or_default()
    }
}

/// How much of the network; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    #[default]
    Nothing,
    /// Other machines.
    Elsewhere,
    /// The client's own machine and its own link too, where a job names the very address.
    Nearby,
}

/// Where a host leads, as far as its text tells: what a name turns out to be is for its user to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Elsewhere,
    /// The machine that connects, or a neighbor that no router lets others reach.
    Near,
    /// To no other host, whoever connects; with the reason, for people.
    Nowhere(&'static str),
}

impl Place {
    pub fn of(address: IpAddr) -> Place {
        const NOBODY: Place = Place::Nowhere("that is the address of no single host");
        match address.to_canonical() {
            IpAddr::V4(address) if address.octets()[0] == 0 => NOBODY,
            IpAddr::V4(address) if address.is_multicast() || address == Ipv4Addr::BROADCAST => NOBODY,
            IpAddr::V4(address) if address.is_loopback() || address.is_link_local() => Place::Near,
            IpAddr::V6(address) if address.is_multicast() || address == Ipv6Addr::UNSPECIFIED => NOBODY,
            IpAddr::V6(address) if address.is_loopback() || address.is_unicast_link_local() => Place::Near,
            _ => Place::Elsewhere,
        }
    }
}

impl Host {
    pub fn place(&self) -> Place {
        match self {
            Host::Address(address) => Place::of(*address),
            // In the subjob's own /etc/hosts, or by RFC 6761.
            Host::Name(name) if name == "subjob" || name == "localhost" || name.ends_with(".localhost") => {
                Place::Nowhere("that name is the subjob itself")
            }
            Host::Name(_) => Place::Elsewhere,
        }
    }
}

/// `10.2.0.5:5432`, `[2001:db8::7]:443` or `db.example:5432`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at its end.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{text}' is not an endpoint such as 10.2.0.5:5432, [2001:db8::7]:443 or db.example:5432: {why}")]
pub struct EndpointError {
    text: String,
    why: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map_err(|why| EndpointError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let port = match port.parse() {
        Ok(0) | Err(_) => return Err("its port is not a number from 1 to 65535"),
        Ok(port) => port,
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let address = rest.strip_suffix(']').and_then(|inner| inner.parse().ok());
            Host::Address(IpAddr::V6(address.ok_or("what is in brackets is not an IPv6 address")?))
        }
        None if host.contains(':') => return Err("an IPv6 address stands in brackets"),
        None => match host.parse() {
            Ok(address) => Host::Address(IpAddr::V4(address)),
            Err(_) => Host::Name(name(host)?),
        },
    };
    Ok(Endpoint { host, port })
}

/// A host name as RFC 1123 §2.1 has it.
fn name(host: &str) -> Result<String, &'static str> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err("its host is neither an address nor a name");
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("its host is neither an address nor a name");
    }
    Ok(host)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        let found = text.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
        assert_eq!(found.as_deref(), expect, "{text}");
    }

    #[test]
    fn endpoints_read_back_as_they_are_shown() {
        for text in ["10.2.0.5:5432", "[2001:db8::7]:443", "db.example:5432", "localhost:1", "a-b.c1:65535"] {
            check(text, Some(text));
        }
        check("DB.Example.:5432", Some("db.example:5432"));
    }

    #[test]
    fn a_host_says_how_near_it_is() {
        let place = |texts: &[&str], expect: fn(Place) -> bool| {
            for text in texts {
                let endpoint: Endpoint = format!("{text}:80").parse().unwrap();
                assert!(expect(endpoint.host.place()), "{text}: {:?}", endpoint.host.place());
            }
        };
        let elsewhere =
            ["10.2.0.5", "[2001:db8::7]", "192.168.1.1", "[fd00::1]", "db.example", "localhost.example"];
        place(&elsewhere, |place| place == Place::Elsewhere);
        let near = ["127.0.0.1", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "[fe80::1]"];
        place(&near, |place| place == Place::Near);
        let nobody =
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "[::]", "[ff02::1]", "[::ffff:0.0.0.0]"];
        place(&nobody, |place| matches!(place, Place::Nowhere(why) if why.contains("no single host")));
        let own = ["localhost", "LocalHost.", "a.localhost", "subjob"];
        place(&own, |place| matches!(place, Place::Nowhere(why) if why.contains("the subjob itself")));
    }

    #[test]
    fn what_must_be_permitted_is_what_the_nearest_endpoint_needs() {
        let check = |allow: &[&str], expect| {
            let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(NetworkAccess { allow, rate: None }.reach(), expect);
        };
        check(&[], Reach::Nothing);
        check(&["db.example:80"], Reach::Elsewhere);
        check(&["db.example:80", "127.0.0.1:80", "10.2.0.5:80"], Reach::Nearby);
    }

    #[test]
    fn what_could_mean_more_than_one_place_is_refused() {
        for text in [
            "",
            ":",
            "db.example",
            "db.example:",
            "db.example:0",
            "db.example:65536",
            "db.example:-1",
            ":80",
            "2001:db8::7:443",
            "[2001:db8::7]",
            "[10.2.0.5]:80",
            "10.2.0:80",
            "1:2",
            "010.2.0.5:80",
            "a..b:80",
            "-a:80",
            "a_b:80",
            "a b:80",
            "*.example:80",
            "db.example:http",
        ] {
            check(text, None);
        }
    }
}
