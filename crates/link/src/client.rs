//! The client's end of the link: requests signed with its own key, replies checked against the grid's.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue, RANGE};
use model::{BlobHash, ClientId, Fence, Inventory};
use protocol::api::UploadReply;
use protocol::client_link::{
    self, CLIENT_HEADER, PollReply, PollRequest, RegisterReply, RegisterRequest, SIGNATURE_HEADER,
    grid_key_text, reply_text, request_text,
};
use protocol::token::Token;
use serde::Serialize;

use crate::LinkError;
use crate::http::{Address, Answer, Connection, Outgoing, json_headers, with_header};
use crate::keys::{OpeningKey, SigningKey, client_id, verify};
use crate::trust::{Trust, TrustError};
use crate::user::REQUEST_LIMIT;

/// A client's keys: who it is, and what only it can open.
#[derive(Debug)]
pub struct ClientKeys {
    pub signing: SigningKey,
    pub opening: OpeningKey,
}

impl ClientKeys {
    pub fn id(&self) -> ClientId {
        client_id(&self.signing.public())
    }
}

/// A client's connection to its server.
#[derive(Debug)]
pub struct ClientLink {
    connection: Connection,
    keys: Arc<ClientKeys>,
}

impl ClientLink {
    pub fn new(address: Address, trust: &Trust, keys: Arc<ClientKeys>) -> Result<Self, TrustError> {
        Ok(ClientLink { connection: Connection::new(address, trust)?, keys })
    }

    /// Registers the client's keys with a join token; returns the grid's public key, vouched for by the CA that
    /// the token names.
    pub async fn register(&mut self, token: &Token, inventory: Inventory) -> Result<BlobHash, LinkError> {
        let request = RegisterRequest {
            token: token.secret_text(),
            public_key: self.keys.signing.public(),
            seal_key: self.keys.opening.public(),
            inventory,
        };
        let path = "/v1/clients";
        let (_, answer) =
            self.send(Method::POST, path, json_headers(), encode(&request), Duration::ZERO).await?;
        let reply: RegisterReply = answer.json(path)?;
        let vouched =
            verify(&BlobHash(token.ca_key), &grid_key_text(&reply.grid_key), &reply.grid_key_signature);
        if !vouched || reply.client != self.keys.id() {
            return Err(LinkError::Forged { what: path.to_owned() });
        }
        Ok(reply.grid_key)
    }

    /// One poll; the server may hold it for `request.wait_s` seconds.
    pub async fn poll(&mut self, request: &PollRequest, grid_key: &BlobHash) -> Result<PollReply, LinkError> {
        let path = "/v1/poll";
        let wait = Duration::from_secs(u64::from(request.wait_s));
        let (signature, answer) =
            self.send(Method::POST, path, json_headers(), encode(request), wait).await?;
        let reply: PollReply = match (answer.json(path), check_reply(&signature, &answer, grid_key, path)) {
            // Only the grid itself can refuse for good: anybody on the way can write a refusal.
            (Err(LinkError::Refused(problem)), Err(_)) => return Err(LinkError::Unsigned(problem)),
            (reply, genuine) => {
                let reply = reply?;
                genuine?;
                reply
            }
        };
        if reply.seq != request.seq {
            return Err(LinkError::Forged { what: path.to_owned() });
        }
        Ok(reply)
    }

    /// Bytes `offset..offset + len` of a blob, or fewer at its end. The caller checks the hash of the whole.
    pub async fn get_blob(&mut self, hash: &BlobHash, offset: u64, len: u64) -> Result<Bytes, LinkError> {
        let path = format!("/v1/client/blobs/{hash}");
        let range = format!("bytes={offset}-{}", offset + len - 1);
        let range = HeaderValue::from_str(&range).expect("digits");
        let headers = HeaderMap::from_iter([(RANGE, range)]);
        let (_, answer) = self.send(Method::GET, &path, headers, Bytes::new(), Duration::ZERO).await?;
        Ok(answer.bytes(&path)?.clone())
    }

    /// Sends a part of an output under a lease. An empty part asks how much is there.
    pub async fn put_blob(
        &mut self,
        fence: Fence,
        hash: &BlobHash,
        total: u64,
        offset: u64,
        part: Bytes,
    ) -> Result<UploadReply, LinkError> {
        let path = format!("/v1/client/blobs/{hash}?total={total}&offset={offset}&fence={fence}");
        let (_, answer) = self.send(Method::PUT, &path, HeaderMap::new(), part, Duration::ZERO).await?;
        answer.json(&path)
    }

    /// Sends a signed request; returns its signature, to which the reply is bound.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        wait: Duration,
    ) -> Result<(String, Answer), LinkError> {
        let id = self.keys.id();
        let hash = BlobHash(*blake3::hash(&body).as_bytes());
        let signature = self.keys.signing.sign(&request_text(id, method.as_str(), path, &hash));
        let signature = STANDARD.encode(&signature.0);
        let headers = with_header(headers, CLIENT_HEADER, &id.to_string());
        let headers = with_header(headers, SIGNATURE_HEADER, &signature);
        let limit = REQUEST_LIMIT + wait;
        let answer = self.connection.send(Outgoing { method, path, headers, body, limit }).await?;
        Ok((signature, answer))
    }
}

fn encode(request: &impl Serialize) -> Bytes {
    serde_json::to_vec(request).expect("requests hold only strings, numbers and maps").into()
}

/// Whether the grid signed this very reply to this very request.
fn check_reply(request: &str, answer: &Answer, grid_key: &BlobHash, what: &str) -> Result<(), LinkError> {
    let forged = || LinkError::Forged { what: what.to_owned() };
    let header = answer.headers.get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    let signature = header.and_then(|text| STANDARD.decode(text).ok()).ok_or_else(forged)?;
    let hash = BlobHash(*blake3::hash(&answer.body).as_bytes());
    let text = reply_text(request, answer.status.as_u16(), &hash);
    verify(grid_key, &text, &client_link::Bytes(signature)).then_some(()).ok_or_else(forged)
}
