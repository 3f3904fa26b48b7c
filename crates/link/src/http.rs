//! HTTPS requests over one connection that is kept open, made again when it broke, and goes through the
//! environment's proxy where there is one. HTTP/1.1 on purpose: it passes through everything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::api::Problem;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::LinkError;
use crate::trust::{Trust, TrustError};

/// Longest time to connect, the TLS handshake included.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Longest answer that is read into memory; a part of a blob is well below it.
pub const MAX_ANSWER: usize = 64 << 20;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Reads `https://HOST[:PORT]`, with nothing after it but a slash. The port is 443 unless given.
    pub fn parse(url: &str) -> Result<Self, LinkError> {
        let bad = |why| LinkError::Url { url: url.to_owned(), why };
        let rest =
            url.trim().strip_prefix("https://").ok_or_else(|| bad("it does not begin with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let uri: hyper::Uri = format!("https://{rest}/").parse().map_err(|_| bad("it is malformed"))?;
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if uri.path() != "/" || authority.as_str() != rest || rest.contains('@') {
            return Err(bad("there is more than a host and a port"));
        }
        // What is no port is passed over by the parser.
        let port = match rest.strip_prefix(authority.host()).unwrap_or_default() {
            "" => 443,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(|| bad("it has a bad port"))?,
        };
        Ok(Address { host: authority.host().to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

/// One connection to a server, for one request at a time.
pub struct Connection {
    address: Address,
    tls: TlsConnector,
    proxy: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

/// A request whose body is in memory.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    pub method: Method,
    pub path: &'a str,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Longest time until the whole answer is there.
    pub limit: Duration,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    /// A connection that is made at the first request.
    pub fn new(address: Address, trust: &Trust) -> Result<Self, TrustError> {
        let tls = TlsConnector::from(Arc::new(trust.client_config()?));
        let proxy = proxy_for(&address, |name| std::env::var(name).ok());
        Ok(Connection { address, tls, proxy, sender: None })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request and reads the whole answer. A kept connection that turns out to be closed is made anew
    /// once: every request of ours may be repeated harmlessly.
    pub async fn send(&mut self, outgoing: Outgoing<'_>) -> Result<Answer, LinkError> {
        let limit = outgoing.limit;
        let server = self.address.to_string();
        let exchange = async {
            if let Some(sender) = self.sender.take() {
                match self.exchange(sender, &outgoing).await {
                    Err(LinkError::Http { source, .. }) if is_closed(&source) => {}
                    done => return done,
                }
            }
            let sender = self.connect().await?;
            self.exchange(sender, &outgoing).await
        };
        timeout(limit, exchange).await.map_err(|_| LinkError::Timeout { server, limit })?
    }

    async fn exchange(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        outgoing: &Outgoing<'_>,
    ) -> Result<Answer, LinkError> {
        let server = self.address.to_string();
        let broke = |source| LinkError::Http { server: server.clone(), source };
        sender.ready().await.map_err(broke)?;
        let response = sender.send_request(self.request(outgoing)).await.map_err(broke)?;
        let (parts, body) = response.into_parts();
        let what = format!("{} {}", outgoing.method, outgoing.path);
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(source) => return Err(broke(*source)),
                Err(_) => return Err(LinkError::TooLong { what, limit: MAX_ANSWER }),
            },
        };
        self.sender = Some(sender);
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    fn request(&self, outgoing: &Outgoing<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.path.parse().expect("paths are made of our own words and ids");
        *request.headers_mut() = outgoing.headers.clone();
        let host = format!("{}:{}", self.address.host, self.address.port);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&host).expect("a host was parsed from a URL"));
        headers.insert(CONTENT_LENGTH, outgoing.body.len().into());
        request
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let server = self.address.to_string();
        let late = || LinkError::Timeout { server: server.clone(), limit: CONNECT_LIMIT };
        timeout(CONNECT_LIMIT, self.connect_unbounded()).await.map_err(|_| late())?
    }

    async fn connect_unbounded(&self) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let server = self.address.to_string();
        let tcp = match &self.proxy {
            Some(proxy) => self.connect_through(proxy).await?,
            None => {
                let host = self.address.host.trim_start_matches('[').trim_end_matches(']');
                TcpStream::connect((host, self.address.port))
                    .await
                    .map_err(|source| LinkError::Connect { server: server.clone(), source })?
            }
        };
        tcp.set_nodelay(true).map_err(|source| LinkError::Connect { server: server.clone(), source })?;
        let host = self.address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host)
            .map_err(|_| LinkError::Url { url: server.clone(), why: "the host is no DNS name or address" })?;
        let stream = self.tls.connect(name, tcp).await.map_err(|source| handshake_error(&server, source))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| LinkError::Http { server: server.clone(), source })?;
        // Ends by itself when the sender is dropped or the peer closes.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Asks an HTTP proxy for a tunnel (RFC 9110, CONNECT).
    async fn connect_through(&self, proxy: &str) -> Result<TcpStream, LinkError> {
        let failed = |answer: String| LinkError::Proxy {
            proxy: proxy.to_owned(),
            server: self.address.to_string(),
            answer,
        };
        let mut tcp = TcpStream::connect(proxy).await.map_err(|e| failed(e.to_string()))?;
        let target = format!("{}:{}", self.address.host, self.address.port);
        let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tcp.write_all(ask.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= 8_192 {
                return Err(failed("its answer is too long".into()));
            }
            // Byte by byte, so that nothing of the tunnel itself is swallowed.
            answer.push(tcp.read_u8().await.map_err(|e| failed(e.to_string()))?);
        }
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        match line.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(tcp),
            _ => Err(failed(line)),
        }
    }
}

/// What a handshake that failed means: another server, or a connection that broke.
fn handshake_error(server: &str, source: std::io::Error) -> LinkError {
    let server = server.to_owned();
    match source.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(_) => LinkError::Tls { server, source },
        None => LinkError::Connect { server, source },
    }
}

/// Whether a kept connection was closed by the server before it took the request.
fn is_closed(error: &hyper::Error) -> bool {
    error.is_closed() || error.is_canceled() || error.is_incomplete_message() || error.is_body_write_aborted()
}

/// `HOST:PORT` of the proxy that the environment names for a server, if any. Loopback is always direct.
fn proxy_for(address: &Address, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let read =
        |upper: &str, lower: &str| variable(lower).or_else(|| variable(upper)).filter(|v| !v.is_empty());
    let host = address.host.as_str();
    if host == "localhost" || host.starts_with("127.") || host == "[::1]" {
        return None;
    }
    let direct = read("NO_PROXY", "no_proxy").is_some_and(|list| {
        list.split(',').map(str::trim).any(|entry| {
            let entry = entry.trim_start_matches('.');
            entry == "*" || (!entry.is_empty() && (host == entry || host.ends_with(&format!(".{entry}"))))
        })
    });
    if direct {
        return None;
    }
    let proxy = read("HTTPS_PROXY", "https_proxy")?;
    let proxy = proxy.strip_prefix("http://").unwrap_or(&proxy).trim_end_matches('/').to_owned();
    Some(if proxy.contains(':') { proxy } else { format!("{proxy}:80") })
}

/// A JSON body's header.
pub fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// Adds a header whose value is made of our own words, ids and base64.
pub fn with_header(mut headers: HeaderMap, name: &'static str, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("ids and base64 are visible ASCII");
    headers.insert(HeaderName::from_static(name), value);
    headers
}

impl Answer {
    /// The body as JSON when the server agreed; its problem when it refused.
    pub fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, LinkError> {
        let body = self.bytes(what)?;
        serde_json::from_slice(body)
            .map_err(|e| LinkError::Answer { what: what.to_owned(), why: e.to_string() })
    }

    /// The body when the server agreed; its problem when it refused.
    pub fn bytes(&self, what: &str) -> Result<&Bytes, LinkError> {
        if self.status.is_success() {
            return Ok(&self.body);
        }
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => Err(LinkError::Refused(problem)),
            Err(_) => Err(LinkError::Answer {
                what: what.to_owned(),
                why: format!("status {} from something that is not a DCGrid server", self.status),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let check = |url: &str, expect: Option<&str>| {
            assert_eq!(Address::parse(url).ok().map(|a| a.to_string()).as_deref(), expect, "{url}");
        };
        check("https://grid.example", Some("https://grid.example:443"));
        check("https://127.0.0.1:7070/", Some("https://127.0.0.1:7070"));
        check("https://[::1]:7070", Some("https://[::1]:7070"));
        for bad in ["http://grid", "grid:7070", "https://", "https://a/b", "https://u@a", "https://a:x", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn a_connection_that_breaks_in_the_handshake_is_no_wrong_server() {
        let broken = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(matches!(handshake_error("s", broken), LinkError::Connect { .. }));
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(matches!(handshake_error("s", std::io::Error::other(certificate)), LinkError::Tls { .. }));
    }

    #[test]
    fn the_environment_names_the_proxy() {
        let check = |url: &str, variables: &[(&str, &str)], expect: Option<&str>| {
            let address = Address::parse(url).expect("valid");
            let read =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(proxy_for(&address, read).as_deref(), expect, "{url} {variables:?}");
        };
        let proxy = ("HTTPS_PROXY", "http://proxy.corp:3128/");
        check("https://grid.example", &[], None);
        check("https://grid.example", &[proxy], Some("proxy.corp:3128"));
        check("https://grid.corp", &[proxy, ("no_proxy", "localhost, .corp")], None);
        check("https://gridcorp", &[proxy, ("no_proxy", "corp")], Some("proxy.corp:3128"));
        check("https://127.0.0.1:7070", &[proxy], None);
    }
}
