//! TLS connections in, requests out of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at one time; parked polls are most of them.
const MAX_CONNECTIONS: usize = 50_000;

/// Longest time for the TLS handshake, and for the head of a request to arrive.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Error)]
pub enum ListenError {
    #[error("can't listen on {address}")]
    Bind {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("the server's certificate can't be used")]
    Certificate(#[from] rustls::Error),
}

pub(crate) struct Listener {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    pub(crate) async fn bind(
        address: &str,
        identity: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    ) -> Result<Self, ListenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(identity.0, identity.1)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let bind = |source| ListenError::Bind { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        Ok(Listener { listener, tls: TlsAcceptor::from(Arc::new(config)) })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` says so; then lets requests that are under way finish.
    pub(crate) async fn serve(self, routes: Router, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stopped(&mut stop) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors or the like: it passes when connections end.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, routes, stop) = (self.tls.clone(), routes.clone(), stop.clone());
            tokio::spawn(async move {
                connection(stream, tls, routes, stop).await;
                drop(slot);
            });
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, routes: Router, mut stop: watch::Receiver<bool>) {
    // Scanners and broken peers are no event; the client's side says what went wrong.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await else { return };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => {
            if let Err(error) = done {
                tracing::debug!(%error, "connection ended");
            }
        }
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(Duration::from_secs(5), connection).await;
        }
    }
}

/// Returns when the server stops, or when nobody is left to stop it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
