//! The user API as functions: what the command line asks of the server.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use model::BlobHash;
use protocol::api::{MAX_MISSING, MAX_PART, MissingReply, MissingRequest, ProblemCode, UploadReply};
use protocol::token::Token;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LinkError;
use crate::http::{Address, Answer, Connection, Outgoing, json_headers};
use crate::trust::{Trust, TrustError};

/// Longest time for an ordinary request; a waiting one has its wait on top.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// A user's connection to a server.
#[derive(Debug)]
pub struct UserLink {
    connection: Connection,
    authorization: HeaderValue,
}

impl UserLink {
    pub fn new(address: Address, token: &Token, trust: &Trust) -> Result<Self, TrustError> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.secret_text()))
            .expect("a token's secret is base64");
        authorization.set_sensitive(true);
        Ok(UserLink { connection: Connection::new(address, trust)?, authorization })
    }

    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, LinkError> {
        self.get_waiting(path, Duration::ZERO).await
    }

    /// Like [`Self::get`], for a request that the server may hold for `wait`.
    pub async fn get_waiting<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<T, LinkError> {
        let answer = self.send(Method::GET, path, HeaderMap::new(), Bytes::new(), wait).await?;
        answer.json(path)
    }

    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, LinkError> {
        let body = serde_json::to_vec(body).expect("requests hold only strings, numbers and maps");
        let answer = self.send(Method::POST, path, json_headers(), body.into(), Duration::ZERO).await?;
        answer.json(path)
    }

    pub async fn delete<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, LinkError> {
        let answer = self.send(Method::DELETE, path, HeaderMap::new(), Bytes::new(), Duration::ZERO).await?;
        answer.json(path)
    }

    /// Bytes `offset..offset + len` of a file, or fewer at its end.
    pub async fn get_range(&mut self, path: &str, offset: u64, len: u64) -> Result<Bytes, LinkError> {
        let range = format!("bytes={offset}-{}", offset + len - 1);
        let range = HeaderValue::from_str(&range).expect("digits");
        let headers = HeaderMap::from_iter([(RANGE, range)]);
        let answer = self.send(Method::GET, path, headers, Bytes::new(), Duration::ZERO).await?;
        Ok(answer.bytes(path)?.clone())
    }

    /// Downloads a file from where `into` already ends, and checks the hash of the whole.
    ///
    /// # Errors
    /// Besides those of the network: the hash differs, and `into` is then emptied.
    pub async fn download(
        &mut self,
        path: &str,
        hash: &BlobHash,
        size: u64,
        into: &mut std::fs::File,
        local: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<(), LinkError> {
        let failed = |source| LinkError::Local { path: local.to_owned(), source };
        let mut hasher = blake3::Hasher::new();
        into.rewind().map_err(failed)?;
        let mut done = std::io::copy(&mut (&mut *into).take(size), &mut hasher).map_err(failed)?;
        progress(done);
        while done < size {
            let part = self.get_range(path, done, (size - done).min(MAX_PART as u64)).await?;
            if part.is_empty() {
                return Err(LinkError::WrongHash { hash: *hash });
            }
            into.write_all(&part).map_err(failed)?;
            hasher.update(&part);
            done += part.len() as u64;
            progress(part.len() as u64);
        }
        if hasher.finalize().as_bytes() != &hash.0 {
            into.set_len(0).map_err(failed)?;
            return Err(LinkError::WrongHash { hash: *hash });
        }
        into.set_len(size).map_err(failed)
    }

    /// Which of `blobs` the server lacks, and how much of each it has.
    pub async fn missing(&mut self, blobs: &[BlobHash]) -> Result<BTreeMap<BlobHash, u64>, LinkError> {
        let mut missing = BTreeMap::new();
        for blobs in blobs.chunks(MAX_MISSING) {
            let request = MissingRequest { blobs: blobs.to_vec() };
            let reply: MissingReply = self.post("/v1/blobs/missing", &request).await?;
            missing.extend(reply.missing);
        }
        Ok(missing)
    }

    /// Uploads bytes that are in memory.
    pub async fn upload_bytes(&mut self, hash: &BlobHash, bytes: &[u8]) -> Result<(), LinkError> {
        let total = bytes.len() as u64;
        let mut offset = 0;
        loop {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let part = &rest[..rest.len().min(MAX_PART)];
            let reply = self.upload_part(hash, total, offset, Bytes::copy_from_slice(part)).await?;
            if reply.complete {
                return Ok(());
            }
            offset = reply.uploaded;
        }
    }

    /// Uploads a file from `offset` on.
    pub async fn upload_file(
        &mut self,
        hash: &BlobHash,
        path: &Path,
        mut offset: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<(), LinkError> {
        let failed = |source| LinkError::Local { path: path.to_owned(), source };
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        let mut again = false;
        loop {
            file.seek(std::io::SeekFrom::Start(offset)).map_err(failed)?;
            let mut part = Vec::new();
            (&mut file).take(MAX_PART as u64).read_to_end(&mut part).map_err(failed)?;
            let sent = part.len() as u64;
            let reply = match self.upload_part(hash, total, offset, part.into()).await {
                // Somebody else began it with other bytes, which are gone now: once from the start, all our own.
                Err(error) if offset > 0 && !again && error.code() == Some(ProblemCode::HashMismatch) => {
                    (offset, again) = (0, true);
                    continue;
                }
                reply => reply?,
            };
            progress(sent);
            if reply.complete {
                return Ok(());
            }
            if sent == 0 && reply.uploaded == offset {
                return Err(LinkError::WrongHash { hash: *hash });
            }
            offset = reply.uploaded;
        }
    }

    async fn upload_part(
        &mut self,
        hash: &BlobHash,
        total: u64,
        offset: u64,
        part: Bytes,
    ) -> Result<UploadReply, LinkError> {
        let path = format!("/v1/blobs/{hash}?total={total}&offset={offset}");
        let answer = self.send(Method::PUT, &path, HeaderMap::new(), part, Duration::ZERO).await?;
        answer.json(&path)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
        wait: Duration,
    ) -> Result<Answer, LinkError> {
        headers.insert(AUTHORIZATION, self.authorization.clone());
        let limit = REQUEST_LIMIT + wait;
        self.connection.send(Outgoing { method, path, headers, body, limit }).await
    }
}
