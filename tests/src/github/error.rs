//! An answer of the API, good or bad, and GitHub's JSON shape of a bad one.
//!
//! Deliberately not here: the headers that every answer has; `gate` adds them.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Where GitHub points when the endpoint has no page of its own.
pub(super) const DOCS: &str = "https://docs.github.com/rest";

/// A refusal in GitHub's words.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// GitHub's list of what is wrong with which field; absent when empty.
    pub errors: Vec<Value>,
    /// Overrides the endpoint's own page.
    pub docs: Option<&'static str>,
    pub headers: Vec<(HeaderName, String)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new(), docs: None, headers: Vec::new() }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(super) fn bad_credentials() -> Self {
        Self { docs: Some(DOCS), ..Self::new(StatusCode::UNAUTHORIZED, "Bad credentials") }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// A JSON schema violation; GitHub puts the detail after a blank line.
    pub(super) fn invalid_request(detail: &str) -> Self {
        Self::invalid(format!("Invalid request.\n\n{detail}"))
    }

    pub(super) fn into_response(self, docs: &str) -> Response {
        let mut body = json!({
            "message": self.message,
            "documentation_url": self.docs.unwrap_or(docs),
            "status": self.status.as_u16().to_string(),
        });
        if !self.errors.is_empty() {
            body["errors"] = Value::Array(self.errors);
        }
        let mut response = Reply::json(self.status, &body).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Option<Value>,
    pub headers: Vec<(HeaderName, String)>,
}

impl Reply {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, body: Some(body.clone()), headers: Vec::new() }
    }

    pub(super) fn ok(body: &Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(super) fn created(body: &Value) -> Self {
        Self::json(StatusCode::CREATED, body)
    }

    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, headers: Vec::new() }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if let Some(body) = self.body {
            *response.body_mut() = Body::from(body.to_string());
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The parsed body of a request: GitHub takes an absent one as an empty object.
pub(super) fn parse_body(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "Body should be a JSON object")),
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "Problems parsing JSON")),
    }
}

/// A string field that the endpoint can't do without.
pub(super) fn required<'a>(body: &'a Value, field: &str) -> Result<&'a str, ApiError> {
    match &body[field] {
        Value::String(text) => Ok(text),
        Value::Null => Err(ApiError::invalid_request(&format!("\"{field}\" wasn't supplied."))),
        other => Err(ApiError::invalid_request(&format!("For 'properties/{field}', {other} is not a string."))),
    }
}
