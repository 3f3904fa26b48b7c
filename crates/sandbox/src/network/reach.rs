//! Where a connection may go: what a job can name at all, and which of the addresses that a name turns out to have.
//! Pure.
//!
//! A job is a stranger's. The desktop's own services trust whoever reaches them over loopback, and a link-local
//! address may be a router's or a hypervisor's settings; so neither is reached unless the one who starts the
//! sandbox has said so *and* the job names the very address. A name alone never leads there: whoever owns the name
//! decides what it resolves to, and may change it between two looks.

use std::net::IpAddr;

use model::network::{Host, MAX_ENDPOINTS, Place};
use model::{Endpoint, NetworkAccess};
use serde::{Deserialize, Serialize};

use super::Route;

/// Whether endpoints on this very machine, and link-local ones, can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nearby {
    /// Never, whatever a job names.
    #[default]
    Refused,
    /// Those that a job names by address. An allowed `127.0.0.1:80` is then the host's, not the subjob's own.
    Named,
}

/// Whether a job may have this network.
///
/// # Errors
/// The reason, for people, why not.
pub(crate) fn check(access: &NetworkAccess, nearby: Nearby) -> Result<(), String> {
    if access.allow.len() > MAX_ENDPOINTS {
        return Err(format!("it allows {} endpoints; at most {MAX_ENDPOINTS}", access.allow.len()));
    }
    if access.rate.is_some_and(|rate| rate.0 == 0) {
        return Err("its rate is 0".to_owned());
    }
    access.allow.iter().try_for_each(|endpoint| check_endpoint(endpoint, nearby))
}

fn check_endpoint(endpoint: &Endpoint, nearby: Nearby) -> Result<(), String> {
    let why = match endpoint.host.place() {
        Place::Nowhere(why) => why,
        Place::Near if nearby == Nearby::Refused => {
            "that is this machine or its own link, which only its owner can open"
        }
        Place::Near | Place::Elsewhere => return Ok(()),
    };
    Err(format!("it allows {endpoint}: {why}"))
}

/// Whether a connection for an endpoint may go to an address. `is_own` says whether the host has that address.
pub(super) fn may_connect(
    address: IpAddr,
    port: u16,
    is_own: impl FnOnce(IpAddr) -> bool,
    routes: &[Route],
    nearby: Nearby,
) -> bool {
    let address = address.to_canonical();
    let is_named = || {
        let named = Endpoint { host: Host::Address(address), port };
        routes.iter().any(|route| route.endpoint == named)
    };
    match Place::of(address) {
        Place::Nowhere(_) => false,
        Place::Elsewhere if !is_own(address) => true,
        Place::Elsewhere | Place::Near => nearby == Nearby::Named && is_named(),
    }
}

#[cfg(test)]
mod tests {
    use model::ByteSize;

    use super::*;
    use crate::network::routes;

    fn access(allow: &[&str]) -> NetworkAccess {
        NetworkAccess { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), rate: None }
    }

    #[test]
    fn a_job_names_hosts_elsewhere() {
        assert_eq!(check(&access(&["10.2.0.5:80", "db.example:80"]), Nearby::Refused), Ok(()));
        for near in ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80"] {
            assert!(check(&access(&[near]), Nearby::Refused).is_err(), "{near}");
            assert_eq!(check(&access(&[near]), Nearby::Named), Ok(()), "{near}");
        }
        let mapped = access(&["[::ffff:127.0.0.1]:80"]);
        assert!(check(&mapped, Nearby::Refused).is_err());
        for nobody in ["0.0.0.0:80", "[ff02::1]:80", "localhost:80"] {
            assert!(check(&access(&[nobody]), Nearby::Named).is_err(), "{nobody}");
        }
    }

    #[test]
    fn a_list_without_end_and_a_rate_of_nothing_are_mistakes() {
        let many: Vec<String> =
            (1..=u16::try_from(MAX_ENDPOINTS).unwrap() + 1).map(|p| format!("a:{p}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(check(&access(&many), Nearby::Refused).is_err());
        assert_eq!(check(&access(&many[1..]), Nearby::Refused), Ok(()));
        let still = NetworkAccess { allow: Vec::new(), rate: Some(ByteSize(0)) };
        assert!(check(&still, Nearby::Refused).is_err());
    }

    #[test]
    fn a_name_does_not_lead_to_this_machine() {
        let allowed = routes(&access(&["db.example:80", "127.0.0.1:80"]));
        let may = |address: &str, port, is_own, nearby| {
            may_connect(address.parse().unwrap(), port, |_| is_own, &allowed, nearby)
        };
        assert!(may("10.2.0.5", 80, false, Nearby::Refused));
        // It has that address itself.
        assert!(!may("10.2.0.5", 80, true, Nearby::Refused));
        assert!(!may("10.2.0.5", 80, true, Nearby::Named));
        for near in ["127.0.0.2", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "::ffff:127.0.0.2"] {
            assert!(!may(near, 80, false, Nearby::Refused), "{near}");
            assert!(!may(near, 80, false, Nearby::Named), "{near}");
        }
        // Named itself, on this port.
        assert!(may("127.0.0.1", 80, false, Nearby::Named));
        assert!(may("::ffff:127.0.0.1", 80, false, Nearby::Named));
        assert!(!may("127.0.0.1", 81, false, Nearby::Named));
        assert!(!may("127.0.0.1", 80, false, Nearby::Refused));
    }
}
