//! Where a subjob may connect to, and how fast (§4.3.3.4).

use core::net::IpAddr;
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
