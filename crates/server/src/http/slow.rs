//! Bodies that don't come: who stops sending in the middle of a request is not waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use hyper::body::{Body as _, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

/// Longest time between two pieces of a request's body.
const STALL_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Error)]
#[error("nothing of the body came for {STALL_LIMIT:?}")]
struct Stalled;

/// A body that fails when it stalls.
struct InTime {
    body: Body,
    until: Pin<Box<Sleep>>,
}

/// Bounds how long a request's body may stall.
pub(super) async fn in_time(request: Request) -> Request {
    request.map(|body| {
        if body.is_end_stream() {
            body
        } else {
            Body::new(InTime { body, until: Box::pin(sleep(STALL_LIMIT)) })
        }
    })
}

impl hyper::body::Body for InTime {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.until.as_mut().reset(Instant::now() + STALL_LIMIT);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.until.as_mut().poll(context).map(|()| Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
