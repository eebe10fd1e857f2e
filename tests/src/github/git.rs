//! The git server: smart HTTP, with GitHub's rules of who may fetch and push, and its words of refusal.
//!
//! Deliberately not here: SSH, Git LFS, and the dumb protocol.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::caller::{Caller, Credential};
use super::cgi::CgiCall;
use super::error::ApiError;
use super::faults::{FaultEffect, StandInServer};
use super::hosted_repository::RepoRef;
use super::listener::PeerInfo;
use super::permissions::{Level, Needs};
use super::shared::SharedGithub;
use super::state::{GitRequest, GithubState};

const NO_CREDENTIALS: &str = "Repository not found.";
const BAD_CREDENTIALS: &str = "Invalid username or token. Password authentication is not supported for Git operations.";
const NOT_GRANTED: &str = "Write access to repository not granted.";
const ARCHIVED: &str = "This repository was archived so it is read-only.";

pub(super) fn router(shared: Arc<SharedGithub>) -> Router {
    Router::new().fallback(move |ConnectInfo(accepted): ConnectInfo<PeerInfo>, request: axum::extract::Request| {
        let shared = Arc::clone(&shared);
        async move { answer(&shared, &accepted, request).await }
    })
}

/// A request of the smart protocol.
struct Wanted {
    owner: String,
    name: String,
    push: bool,
    /// What comes after the repository in the path.
    action: &'static str,
}

impl Wanted {
    /// Only what GitHub allows in names gets through, so no path can lead out of the root.
    fn parse(method: &Method, path: &str, query: &str) -> Option<Self> {
        let (owner, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (name, action) = rest.split_once('/')?;
        let (action, push) = match (method.as_str(), action, query) {
            ("GET", "info/refs", "service=git-upload-pack") => ("info/refs", false),
            ("GET", "info/refs", "service=git-receive-pack") => ("info/refs", true),
            ("POST", "git-upload-pack", _) => ("git-upload-pack", false),
            ("POST", "git-receive-pack", _) => ("git-receive-pack", true),
            _ => return None,
        };
        let name = name.strip_suffix(".git").unwrap_or(name);
        let proper = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !matches!(part, "" | "." | "..") && part.chars().all(allowed)
        };
        (proper(owner) && proper(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned(), push, action })
    }

    fn service(&self) -> &'static str {
        if self.push { "git-receive-pack" } else { "git-upload-pack" }
    }
}

async fn answer(shared: &SharedGithub, accepted: &PeerInfo, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let effect = shared.state().faults.hit(StandInServer::Git, &parts.method, path);
    let Some(wanted) = Wanted::parse(&parts.method, path, parts.uri.query().unwrap_or_default()) else {
        return plain(StatusCode::NOT_FOUND, "Not Found");
    };
    let mut caller = "refused".to_owned();
    let response = match effect {
        Some(FaultEffect::Cut) => Response::new(Body::empty()),
        Some(FaultEffect::Status(status)) => super::gate::outage(status),
        Some(FaultEffect::SecondaryLimit { status, retry_after }) => limited(status, retry_after),
        _ => serve(shared, accepted, &parts, &wanted, body, &mut caller).await,
    };

    let cut = matches!(effect, Some(FaultEffect::Cut | FaultEffect::LostAnswer));
    {
        let mut state = shared.state();
        let request = GitRequest {
            at: state.timestamp(),
            repository: format!("{}/{}", wanted.owner, wanted.name),
            service: wanted.service().to_owned(),
            exchange: wanted.action != "info/refs",
            status: if cut { 0 } else { response.status().as_u16() },
            caller,
        };
        state.git_requests.push(request);
    }
    super::gate::spoil(response, effect, accepted).await
}

async fn serve(
    shared: &SharedGithub,
    accepted: &PeerInfo,
    parts: &Parts,
    wanted: &Wanted,
    body: Body,
    caller: &mut String,
) -> Response {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let admitted = {
        let state = shared.state();
        let who = match Credential::of(&parts.headers) {
            Credential::Token(secret) => state.token_caller(secret),
            Credential::None => Ok(Caller::Anonymous(accepted.peer)),
            Credential::Bearer(_) | Credential::Malformed => Err(ApiError::bad_credentials()),
        };
        match who {
            Ok(who) => {
                *caller = who.label();
                admit(&state, &who, wanted, accepted.peer)
            }
            Err(error) if error.status == StatusCode::UNAUTHORIZED => Err(challenge(BAD_CREDENTIALS)),
            Err(error) => Err(plain(error.status, &error.message)),
        }
    };
    let full_name = match admitted {
        Ok(Place::Here(full_name)) => full_name,
        Ok(Place::Moved(full_name)) => {
            let host = header("host").unwrap_or("github.com");
            let query = parts.uri.query().unwrap_or_default();
            let url = format!("{}://{host}/{full_name}.git/{}?{query}", shared.scheme, wanted.action);
            return moved(&url);
        }
        Err(refusal) => return refusal,
    };
    let call = CgiCall {
        git_root: &shared.git_root,
        path_info: &format!("/{full_name}.git/{}", wanted.action),
        method: parts.method.as_str(),
        query: parts.uri.query().unwrap_or_default(),
        content_type: header("content-type"),
        content_encoding: header("content-encoding"),
        content_length: header("content-length"),
        protocol: header("git-protocol"),
    };
    match call.run(body).await {
        Ok(response) => response,
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

/// Where an admitted caller finds the repository.
enum Place {
    Here(String),
    Moved(String),
}

#[expect(clippy::result_large_err, reason = "the refusal is the answer and is sent at once")]
fn admit(state: &GithubState, caller: &Caller, wanted: &Wanted, peer: IpAddr) -> Result<Place, Response> {
    let anonymous = matches!(caller, Caller::Anonymous(_));
    let missing = || {
        if anonymous { challenge(NO_CREDENTIALS) } else { plain(StatusCode::NOT_FOUND, "Repository not found.") }
    };
    let here = state.by_name(&wanted.owner, &wanted.name);
    let repository = here.or_else(|| state.by_former_name(&wanted.owner, &wanted.name)).ok_or_else(missing)?;
    let level = if wanted.push { Level::Write } else { Level::Read };
    let needs = Needs { permission: "contents", level };
    state.authorize(caller, &RepoRef::Id(repository.id), needs).map_err(|error| match error.status {
        StatusCode::UNAUTHORIZED => challenge(NO_CREDENTIALS),
        StatusCode::FORBIDDEN => plain(StatusCode::FORBIDDEN, NOT_GRANTED),
        _ => missing(),
    })?;
    state
        .git_policy(caller, &RepoRef::Id(repository.id), peer)
        .map_err(|words| plain(StatusCode::FORBIDDEN, &words))?;
    if wanted.push && repository.archived {
        return Err(plain(StatusCode::FORBIDDEN, ARCHIVED));
    }
    let full_name = repository.full_name();
    Ok(if here.is_some() { Place::Here(full_name) } else { Place::Moved(full_name) })
}

/// git shows a plain text as `remote: …`.
fn plain(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.to_owned()).into_response()
}

fn challenge(text: &str) -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    let basic = HeaderValue::from_static("Basic realm=\"GitHub\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    response
}

fn moved(url: &str) -> Response {
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(url) = HeaderValue::from_str(url) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    response
}

fn limited(status: u16, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let mut response = plain(status, "You have exceeded a secondary rate limit.");
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
