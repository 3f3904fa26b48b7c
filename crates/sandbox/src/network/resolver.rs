//! The process that looks up names, because that waits and reads files, and the broker does neither.
//!
//! It is asked by number, so that whoever takes over the broker can look up the job's names and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use model::network::Host;
use serde::{Deserialize, Serialize};

use super::Route;
use crate::message::{self, Inbox};

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

const LOST: &str = "the process that looks up names has died";

/// Which route's name is wanted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub route: u16,
}

/// The addresses of a route's name; or why there are none, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub route: u16,
    pub found: Result<Vec<IpAddr>, String>,
}

/// Answers one question after the other until nobody asks any more.
///
/// # Errors
/// What the socket says; its end is none.
pub(super) fn serve(mut broker: UnixStream, routes: &[Route]) -> io::Result<()> {
    loop {
        let question: Question = match message::read(&mut broker) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            question => question?,
        };
        let route = routes.get(usize::from(question.route));
        let name = route.and_then(|route| match &route.endpoint.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) => None,
        });
        let found = name.map_or_else(|| Err("no such name is asked for".to_owned()), look_up);
        message::write(&mut broker, &Answer { route: question.route, found })?;
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    // The port plays no part in what a name resolves to.
    let found = (name, 0).to_socket_addrs().map_err(|e| e.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        let address = address.ip().to_canonical();
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// How long the addresses of a name are believed: so a program that connects in a loop asks no more often.
const FRESH: Duration = Duration::from_secs(10);

/// The broker's side: what it knows of the names, and what it has asked.
#[derive(Debug)]
pub(super) struct Names {
    /// To the resolver; none when there is none, or it has died.
    socket: Option<UnixStream>,
    inbox: Inbox,
    asked: BTreeSet<usize>,
    known: BTreeMap<usize, (Duration, Vec<IpAddr>)>,
}

impl Names {
    pub(super) fn new(socket: Option<UnixStream>) -> Self {
        Names { socket, inbox: Inbox::default(), asked: BTreeSet::new(), known: BTreeMap::new() }
    }

    /// Readable when there is something to [hear](Names::hear).
    pub(super) fn socket(&self) -> Option<&UnixStream> {
        self.socket.as_ref()
    }

    /// The addresses of a route's name, if they are known; else they are asked for.
    pub(super) fn find(&mut self, route: usize, now: Duration) -> Option<Vec<IpAddr>> {
        match self.known.get(&route) {
            Some((at, found)) if now.saturating_sub(*at) < FRESH => return Some(found.clone()),
            _ => (),
        }
        if self.asked.insert(route)
            && let (Some(socket), Ok(number)) = (&mut self.socket, u16::try_from(route))
        {
            // If it is gone, its end of the socket tells.
            let _ = message::write(socket, &Question { route: number });
        }
        None
    }

    /// What the resolver has answered; if it is gone, that it won't.
    pub(super) fn hear(&mut self, now: Duration) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut buffer = [0; 4_096];
        let got = self.socket.as_mut().map(|socket| socket.read(&mut buffer));
        let still_there = match got {
            Some(Ok(length @ 1..)) => {
                self.inbox.push(&buffer[..length]);
                loop {
                    match self.inbox.pop::<Answer>() {
                        Ok(Some(answer)) => answers.push(answer),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                }
            }
            Some(Err(e)) => e.kind() == io::ErrorKind::Interrupted,
            Some(Ok(_)) | None => false,
        };
        for answer in &answers {
            let route = usize::from(answer.route);
            self.asked.remove(&route);
            if let Ok(found) = &answer.found {
                self.known.insert(route, (now, found.clone()));
            }
        }
        if !still_there {
            self.socket = None;
            let lost =
                |route| u16::try_from(route).ok().map(|route| Answer { route, found: Err(LOST.to_owned()) });
            answers.extend(mem::take(&mut self.asked).into_iter().filter_map(lost));
        }
        answers
    }
}
