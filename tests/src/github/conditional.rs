//! Conditional requests: an answer that hasn't changed isn't repeated, and isn't counted against the rate limit.
//!
//! Deliberately not here: `Last-Modified`, which no client of ours uses.

use axum::http::{Method, StatusCode, header};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::caller::Caller;
use super::error::Reply;
use super::request::ApiRequest;

/// The reply with its mark, and whether it's one that the asker has already.
pub(super) fn mark(asked: &ApiRequest, caller: &Caller, reply: Reply) -> (Reply, bool) {
    if asked.method != Method::GET || reply.status != StatusCode::OK {
        return (reply, false);
    }
    // GitHub's marks differ from token to token as well.
    let secret = if let Caller::Token { secret, .. } = caller { secret } else { "" };
    let body = reply.body.as_ref().map(ToString::to_string).unwrap_or_default();
    let sum = digest(&SHA256, format!("{secret} {} {body}", asked.uri).as_bytes());
    let etag = format!("W/\"{}\"", HEXLOWER.encode(sum.as_ref()));
    let known = asked.header("if-none-match") == Some(&etag);
    let reply =
        if known { Reply { status: StatusCode::NOT_MODIFIED, body: None, headers: reply.headers } } else { reply };
    (reply.with_header(header::ETAG, etag), known)
}
