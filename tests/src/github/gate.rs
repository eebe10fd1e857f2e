//! The way of every API request: faults, headers, credentials, limits, the endpoint, the answer's headers, the log.
//!
//! Deliberately not here: what an endpoint does.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::Value;

use super::caller::{Caller, Credential};
use super::cgi;
use super::conditional;
use super::dispatch::dispatch;
use super::error::{ApiError, DOCS, Reply};
use super::faults::{FaultEffect, StandInServer};
use super::limits::{Usage, secondary};
use super::listener::PeerInfo;
use super::random::random;
use super::request::ApiRequest;
use super::route::Route;
use super::shared::SharedGithub;
use super::state::{KeptExchange, RestRequest};

const DEFAULT_VERSION: &str = "2022-11-28";
const LATEST_VERSION: &str = "2026-03-10";
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const NO_USER_AGENT: &str = "Request forbidden by administrative rules. Please make sure your request has a User-Agent \
    header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). Check \
    https://developer.github.com for other possible causes.";

pub(super) fn router(shared: Arc<SharedGithub>) -> Router {
    Router::new().fallback(move |ConnectInfo(accepted): ConnectInfo<PeerInfo>, request: axum::extract::Request| {
        let shared = Arc::clone(&shared);
        async move { answer(&shared, &accepted, request).await }
    })
}

/// What the answer's headers and the log tell of a request beside the answer.
struct Told {
    caller: String,
    usage: Option<Usage>,
    headers: Vec<(&'static str, String)>,
}

async fn answer(shared: &SharedGithub, accepted: &PeerInfo, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let mut sent = Bytes::new();
    let effect = shared.state().faults.hit(StandInServer::Api, &method, &path);
    let mut told = Told { caller: "refused".to_owned(), usage: None, headers: Vec::new() };

    let mut response = match to_bytes(body, MAX_BODY_BYTES).await {
        _ if effect == Some(FaultEffect::Cut) => Response::new(Body::empty()),
        Err(_) => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large").into_response(DOCS),
        Ok(body) => {
            sent.clone_from(&body);
            let asked = ApiRequest { method: parts.method, uri: parts.uri, headers: parts.headers, body };
            process(shared, accepted, &asked, effect.as_ref(), &mut told).await
        }
    };
    finish_headers(response.headers_mut(), &told, shared.state().timestamp());

    let cut = matches!(effect, Some(FaultEffect::Cut | FaultEffect::LostAnswer));
    let status = if cut { 0 } else { response.status().as_u16() };
    let (mut exchange, keeps);
    {
        let mut state = shared.state();
        let at = state.timestamp();
        let (method, path) = (method.to_string(), path);
        keeps = state.exchanges.is_some();
        exchange = KeptExchange {
            method: method.clone(),
            path: path.clone(),
            query,
            request: json_of(&sent),
            status,
            response: Value::Null,
        };
        state.requests.push(RestRequest { at, method, path, status, caller: told.caller });
    }
    if keeps {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
        exchange.response = json_of(&body);
        shared.state().exchanges.get_or_insert_default().push(exchange);
        response = Response::from_parts(parts, Body::from(body));
    }
    spoil(response, effect, accepted).await
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// What a planted fault does to an answer on its way out, of the API as of git.
pub(super) async fn spoil(response: Response, effect: Option<FaultEffect>, accepted: &PeerInfo) -> Response {
    match effect {
        Some(FaultEffect::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(FaultEffect::Cut | FaultEffect::LostAnswer) => accepted.cut(),
        Some(FaultEffect::CutBody(bytes)) => return cgi::cut_body(response, bytes),
        _ => {}
    }
    response
}

async fn process(
    shared: &SharedGithub,
    accepted: &PeerInfo,
    asked: &ApiRequest,
    effect: Option<&FaultEffect>,
    told: &mut Told,
) -> Response {
    if let Some(FaultEffect::Status(status)) = effect {
        return outage(*status);
    }
    if asked.header("user-agent").is_none_or(|agent| agent.trim().is_empty()) {
        return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "text/html")], NO_USER_AGENT).into_response();
    }
    let route = Route::parse(&asked.method, asked.uri.path());
    let docs = route.as_ref().map_or_else(|| DOCS.to_owned(), Route::docs);
    match admit(shared, accepted, asked, effect, told) {
        Err(error) => error.into_response(&docs),
        Ok(caller) => match route {
            None => ApiError::not_found().into_response(DOCS),
            Some(route) => {
                if let Some(needs) = route.needs() {
                    let accepted = format!("{}={}", needs.permission, needs.level.name());
                    told.headers.push(("x-accepted-github-permissions", accepted));
                }
                match dispatch(shared, asked, &caller, accepted.peer, route).await {
                    Ok(reply) => {
                        let (reply, known) = conditional::mark(asked, &caller, reply);
                        if known {
                            let mut state = shared.state();
                            let limits = state.limits;
                            told.usage = Some(state.counters.take_back(limits, &caller.bucket()));
                        }
                        reply.into_response()
                    }
                    Err(error) => error.into_response(&docs),
                }
            }
        },
    }
}

/// Version, accepted type, credentials and limits, in the order in which GitHub refuses.
fn admit(
    shared: &SharedGithub,
    accepted: &PeerInfo,
    asked: &ApiRequest,
    effect: Option<&FaultEffect>,
    told: &mut Told,
) -> Result<Caller, ApiError> {
    let version = asked.header("x-github-api-version").unwrap_or(DEFAULT_VERSION);
    if ![DEFAULT_VERSION, LATEST_VERSION].contains(&version) {
        let message = format!(
            "The version you specified in the \"X-GitHub-API-Version\" request header, {version:?}, is not a supported \
             version. The following versions are currently supported: {LATEST_VERSION:?} (most recent), \
             {DEFAULT_VERSION:?}."
        );
        return Err(ApiError { docs: Some(DOCS), ..ApiError::new(StatusCode::BAD_REQUEST, message) });
    }
    told.headers.push(("x-github-api-version-selected", version.to_owned()));
    if let Some(accept) = asked.header("accept").filter(|accept| !accepts_json(accept)) {
        let message = format!("Unsupported 'Accept' header: '{accept}'. Must accept 'application/json'.");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }

    let mut state = shared.state();
    let now = state.now();
    let caller = state.authenticate(Credential::of(&asked.headers), accepted.peer);
    let bucket = match &caller {
        Ok(caller) => caller.bucket(),
        Err(_) => Caller::Anonymous(accepted.peer).bucket(),
    };
    let limits = state.limits;
    let (usage, counted) = state.counters.count(limits, &bucket, &asked.method, now);
    told.usage = Some(usage);
    let caller = caller?;
    told.caller = caller.label();
    if let Caller::Token { token, .. } = &caller {
        if let Some(expires) = token.expires_at.and_then(|at| Timestamp::from_second(at).ok()) {
            let expires = expires.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            told.headers.push(("github-authentication-token-expiration", expires));
        }
        if !token.scopes.is_empty() {
            told.headers.push(("x-oauth-scopes", token.scopes.join(", ")));
        }
    }
    counted?;
    if let Some(FaultEffect::SecondaryLimit { status, retry_after }) = effect {
        return Err(secondary(StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN), *retry_after));
    }
    Ok(caller)
}

fn accepts_json(accept: &str) -> bool {
    accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim()).any(|kind| {
        matches!(kind, "" | "*/*" | "application/*" | "application/json") || kind.starts_with("application/vnd.github")
    })
}

fn finish_headers(headers: &mut HeaderMap, told: &Told, now: Timestamp) {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert(header::DATE, date);
    }
    if let Some(usage) = told.usage {
        usage.write_to(headers);
    }
    for (name, value) in &told.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(header::SERVER, HeaderValue::from_static("github.com"));
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        headers.insert("x-github-request-id", id);
    }
}

/// GitHub's form: groups of hexadecimal digits.
fn request_id() -> String {
    let [a, b, c, d] = random::<4>();
    format!("{a:02X}{b:02X}:{c:02X}{d:02X}:{:08X}", u32::from_be_bytes(random()))
}

/// What GitHub's edge says when what is behind it doesn't; a 503 isn't JSON.
pub(super) fn outage(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let page = "<!DOCTYPE html>\n<html><head><title>Unicorn! &middot; GitHub</title></head><body>\
                    <p><strong>No server is currently available to service your request.</strong></p></body></html>\n";
        return (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    }
    Reply::json(status, &serde_json::json!({ "message": "Server Error" })).into_response()
}
