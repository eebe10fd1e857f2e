//! A request to the API, read to its end.
//!
//! Deliberately not here: who sent it, and what it asks for; see `caller` and `route`.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};

/// One request as its handlers see it.
pub(super) struct ApiRequest {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl ApiRequest {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }
}
