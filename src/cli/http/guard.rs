//! Who may use the API.

use std::net::SocketAddr;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::reply::Fault;
use super::token::Token;
use crate::access::attempts::Attempts;

#[derive(Default)]
pub(super) struct Guard {
    /// Without one, nobody.
    token: RwLock<Option<Token>>,
    attempts: Mutex<Attempts>,
}

impl Guard {
    pub(super) fn replace(&self, token: Option<Token>) {
        *self.token.write() = token;
    }

    /// Whether the request has the token.
    pub(super) fn admit<B>(&self, request: &Request<B>, from: SocketAddr) -> Result<(), Fault> {
        let token = self.token.read();
        let Some(token) = &*token else {
            let reason = "the API is off: --http-token-file names the file with the token that opens it";
            return Err(Fault::new(StatusCode::FORBIDDEN, reason));
        };
        let Some(offered) = bearer(request.headers()) else {
            return Err(unauthorized("send the header Authorization: Bearer TOKEN", "Bearer"));
        };
        // Before the count: who sends wrong tokens keeps nobody out who has the same address and the right one. A token is
        // too long to be guessed, however fast; what the count holds back is the log.
        if token.is(offered) {
            return Ok(());
        }
        let origin = Some(from.ip().to_canonical());
        let mut attempts = self.attempts.lock();
        let now = Instant::now();
        if !attempts.may_try(origin, now) {
            let reason = "too many wrong tokens from this address: wait some seconds";
            let wait = HeaderValue::from_static("3");
            return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, reason).with(RETRY_AFTER, wait));
        }
        attempts.failed(origin, now);
        drop(attempts);
        tracing::warn!(peer = %from, "wrong token for the HTTP API");
        Err(unauthorized("this is not the token", "Bearer error=\"invalid_token\""))
    }
}

fn unauthorized(reason: &str, challenge: &'static str) -> Fault {
    Fault::new(StatusCode::UNAUTHORIZED, reason).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// What stands behind `Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
