//! The network of a subjob whose job names endpoints (§4.3.3.4): its connections are made from outside, by a broker.
//!
//! ```text
//! subjob's own, empty network namespace            │            the host's network namespace
//!                                                  │
//! program ──connect()──► listener at 10.2.0.5:5432 ┼── knock ─► broker ──connect()──► the real 10.2.0.5:5432
//!            (kernel)    on the loopback interface │    then bytes both ways, counted and at the set rate
//! ```
//! The program never holds a socket of the host's: the empty namespace stays the guarantee, whatever the program does
//! and whatever becomes of the broker. What is allowed is there because the loopback interface has its address and
//! something listens at its port; all else is not there. So there is no check that could be raced, and a socket
//! behaves as sockets do: blocking or not, duplicated, watched by epoll before it is connected.
//!
//! | process | what it does | what it may |
//! | --- | --- | --- |
//! | VM Portal | makes listeners and tap, hands them out, forgets them (`inside`, `loopback`, `door`) | has the namespace's capabilities then |
//! | broker | hears knocks, connects, accepts, relays (`broker`, `knock`, `connection`, `flow`, `bucket`) | nothing: own user id, no files, few calls (`confine`) |
//! | resolver | looks up the names that the job has, and no others (`resolver`) | reads files and asks the host's DNS |
//!
//! A connect is held until the real connection is made, and ends as that did (`door`).
//!
//! Both helpers are forks of init from before it left the host's network; they die with it, lie in no namespace that
//! the subjob sees, and without endpoints there are none.
//!
//! A name has an address of its own inside, out of a range that is nobody's (198.18.0.0/15), in `/etc/hosts`. What it
//! really is gets looked up anew for a connection, and must not be this machine (`reach`).

mod broker;
mod bucket;
mod confine;
mod connection;
mod door;
mod flow;
mod inside;
mod knock;
mod loopback;
mod reach;
mod resolver;
mod routes;
mod start;

use model::ByteSize;
use serde::{Deserialize, Serialize};

pub(crate) use inside::prepare;
pub use reach::Nearby;
pub(crate) use reach::check;
pub(crate) use routes::{Route, hosts, routes};
pub(crate) use start::{Link, Role, split};

/// What init needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkSetup {
    pub routes: Vec<Route>,
    /// Bytes per second, each way.
    pub rate: Option<ByteSize>,
    pub nearby: Nearby,
}
