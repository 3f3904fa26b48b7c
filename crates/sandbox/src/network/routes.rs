//! Which address an endpoint has inside. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::network::Host;
use model::{Endpoint, NetworkAccess};
use serde::{Deserialize, Serialize};

/// First address for names: RFC 2544 sets 198.18.0.0/15 aside for measurements, so that no real host has one.
const FIRST_SYNTHETIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// An endpoint and where the program finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub endpoint: Endpoint,
    pub inside: SocketAddr,
}

/// A route for each endpoint, once. An IPv6 address that stands for an IPv4 one is that one.
pub(crate) fn routes(access: &NetworkAccess) -> Vec<Route> {
    let endpoints: BTreeSet<Endpoint> = access.allow.iter().map(canonical).collect();
    let taken: BTreeSet<IpAddr> = endpoints.iter().filter_map(literal).collect();
    let mut free =
        (u32::from(FIRST_SYNTHETIC)..).map(|bits| IpAddr::V4(bits.into())).filter(|ip| !taken.contains(ip));
    let mut names: BTreeMap<String, IpAddr> = BTreeMap::new();
    let mut address = |host: &Host| match host {
        Host::Address(address) => *address,
        Host::Name(name) => *names
            .entry(name.clone())
            .or_insert_with(|| free.next().expect("there are far more addresses than endpoints")),
    };
    let inside = |endpoint: &Endpoint| SocketAddr::new(address(&endpoint.host), endpoint.port);
    let inside: Vec<SocketAddr> = endpoints.iter().map(inside).collect();
    endpoints.into_iter().zip(inside).map(|(endpoint, inside)| Route { endpoint, inside }).collect()
}

fn canonical(endpoint: &Endpoint) -> Endpoint {
    let host = match &endpoint.host {
        Host::Address(address) => Host::Address(address.to_canonical()),
        name => name.clone(),
    };
    Endpoint { host, port: endpoint.port }
}

fn literal(endpoint: &Endpoint) -> Option<IpAddr> {
    match endpoint.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    }
}

/// Lines for `/etc/hosts`, one for each name.
pub(crate) fn hosts(routes: &[Route]) -> String {
    let mut lines = String::new();
    let mut seen = BTreeSet::new();
    for route in routes {
        if let Host::Name(name) = &route.endpoint.host
            && seen.insert(name)
        {
            writeln!(lines, "{} {name}", route.inside.ip()).expect("a string takes all");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(allow: &[&str]) -> Vec<Route> {
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        routes(&NetworkAccess { allow, rate: None })
    }

    fn check(allow: &[&str], expect: &[&str]) {
        let found: Vec<String> =
            plan(allow).iter().map(|route| format!("{} {}", route.endpoint, route.inside)).collect();
        assert_eq!(found, expect, "{allow:?}");
    }

    #[test]
    fn an_address_is_itself_and_a_name_gets_one() {
        check(&[], &[]);
        check(&["10.2.0.5:80", "10.2.0.5:80"], &["10.2.0.5:80 10.2.0.5:80"]);
        check(&["[::ffff:10.2.0.5]:80"], &["10.2.0.5:80 10.2.0.5:80"]);
        check(&["[2001:db8::7]:443"], &["[2001:db8::7]:443 [2001:db8::7]:443"]);
        let names =
            ["a.example:80 198.18.0.1:80", "a.example:81 198.18.0.1:81", "b.example:80 198.18.0.2:80"];
        check(&["b.example:80", "a.example:81", "a.example:80"], &names);
    }

    #[test]
    fn a_name_never_gets_the_address_of_another_endpoint() {
        check(
            &["a.example:80", "198.18.0.1:80"],
            &["198.18.0.1:80 198.18.0.1:80", "a.example:80 198.18.0.2:80"],
        );
    }

    #[test]
    fn only_the_names_are_told_and_each_once() {
        let routes = plan(&["a.example:80", "a.example:81", "10.0.0.1:80", "b.example:80"]);
        assert_eq!(hosts(&routes), "198.18.0.1 a.example\n198.18.0.2 b.example\n");
        assert_eq!(hosts(&plan(&["10.0.0.1:80"])), "");
    }
}
