//! Verify: the project answers, seen from the worker. Listening, reachable and healthy are three things; a container's
//! own health check can be green while the port isn't published. Which commit answers is a fourth, where the page says
//! it: that is read in `served_commit`.

use std::time::Duration;

use slipway_protocol::names::{CommitSha, Port, ServiceName};
use slipway_protocol::{Action, Allocation, ErrorCode, HealthCheck, ProjectReady, Stage};
use tokio::time::Instant;

use super::served_commit::{ServedCommit, read_commit};
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a project may go on answering badly before verify fails.
pub const WARM_UP: Duration = Duration::from_secs(20);
/// How much of a page is read to find its commit.
const MAX_PAGE_BYTES: usize = 64 * 1024;

/// A page of a service, and what is expected of it.
struct Page {
    service: ServiceName,
    port: Port,
    /// The URL without a path.
    base: String,
    /// The port inside the service's container.
    inner: Port,
    path: String,
    check: HealthCheck,
}

enum ProbeResult {
    /// A healthy answer, and whether it names the deployed commit.
    Healthy(u16, bool),
    /// A healthy answer of this other commit, and its status.
    OtherVersion(String, u16),
    Answers(u16),
    /// The connection is accepted, but no HTTP answer comes in time.
    Mute(&'static str),
    /// The connection is refused, or not accepted in time.
    Unreachable,
}

impl Attempt {
    pub(crate) async fn verify(&mut self) -> Result<StageReport, StageError> {
        let pages = pages(&self.work.request, &self.work.target.address.url_form());
        let Some(web) = pages.first() else {
            return Err(StageError::new(ErrorCode::InternalError, "the request has no web service"));
        };
        let (url, path) = (web.base.clone(), web.path.clone());
        let mut answers = Vec::new();
        for page in &pages {
            let (status, commit_checked) = self.wait_until_healthy(page).await?;
            answers.push((page, status, commit_checked));
        }
        let services: Vec<_> = answers
            .iter()
            .map(|(page, status, commit_checked)| {
                serde_json::json!({
                    "service": page.service.as_str(), "port": page.port, "path": page.path, "status": status,
                    "commit_checked": commit_checked,
                })
            })
            .collect();
        let mut report = StageReport::of(false)
            .fact("listening", true)
            .fact("reachable", true)
            .fact("healthy", true)
            .fact("path", path)
            .fact("status", answers.first().map_or(0, |(_, status, _)| *status))
            .fact("commit_checked", answers.iter().any(|(_, _, checked)| *checked))
            .fact("services", services);
        report.url = Some(url);
        Ok(report)
    }

    /// Waits for a healthy answer; gives its status, and whether it named the deployed commit.
    async fn wait_until_healthy(&mut self, page: &Page) -> Result<(u16, bool), StageError> {
        let url = format!("{}{}", page.base, page.path);
        let configured = self.config().health_timeout;
        let own = page.check.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let (until_it_speaks, until_it_agrees) = (own.unwrap_or(configured), own.unwrap_or(WARM_UP.min(configured)));
        let started = Instant::now();
        loop {
            let probing = probe(self.probe(), &url, &page.check, &self.work.request.repository.commit);
            let seen = tokio::select! {
                seen = probing => seen,
                () = self.cancel.cancelled() => {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "verifying was cancelled"));
                }
            };
            let waited = started.elapsed();
            match seen {
                ProbeResult::Healthy(status, commit_checked) => return Ok((status, commit_checked)),
                // A start starts what is there, which may have come by CI since.
                ProbeResult::OtherVersion(_, status) if self.work.action == Action::Start => {
                    return Ok((status, false));
                }
                ProbeResult::Answers(status) if waited >= until_it_agrees => {
                    let message = format!("{url} answers {status}; {} is healthy", expected(&page.check));
                    let error = StageError::new(ErrorCode::NotHealthy, message);
                    return Err(self.restore_after(Stage::Verify, error).await);
                }
                ProbeResult::OtherVersion(commit, _) if waited >= until_it_agrees => {
                    let message = format!("{url} answers as commit {commit}");
                    let error = StageError::new(ErrorCode::WrongVersion, message);
                    return Err(self.restore_after(Stage::Verify, error).await);
                }
                ProbeResult::Mute(why) if waited >= until_it_speaks => {
                    return Err(self.explain_silence(page, Some(why)).await?);
                }
                ProbeResult::Unreachable if waited >= until_it_speaks => {
                    return Err(self.explain_silence(page, None).await?);
                }
                ProbeResult::Answers(_)
                | ProbeResult::OtherVersion(..)
                | ProbeResult::Mute(_)
                | ProbeResult::Unreachable => {
                    tokio::time::sleep(PROBE_INTERVAL).await;
                }
            }
        }
    }

    /// The error for a project that doesn't listen, one that listens and is `mute`, or one that the worker can't reach.
    /// Only the last isn't the release's fault.
    async fn explain_silence(&mut self, page: &Page, mute: Option<&str>) -> Result<StageError, StageError> {
        let script = Script::new("listening", scripts::LISTENING)
            .word("slug", &self.work.request.project.slug)
            .word("service", &page.service)
            .word("port", &page.port)
            .word("inner", &page.inner);
        let output = self.exec(Stage::Verify, &script).await?;
        let listening = output.is_ok_and(|output| output.value("listening").is_some());
        let error = match mute {
            _ if !listening => {
                let message = format!(
                    "service {} doesn't listen where port {} of the server leads: it must on port {} of its container, \
                     on all addresses",
                    page.service, page.port, page.inner
                );
                StageError::new(ErrorCode::NotListening, message)
            }
            Some(why) => {
                let message = format!("{} takes connections, but {why}", page.base);
                StageError::new(ErrorCode::NotHealthy, message)
            }
            None => {
                // The release before it wouldn't be reached either.
                let message = format!("{} listens on the server, but no connection can be made from here", page.base);
                return Ok(StageError::new(ErrorCode::NotReachable, message));
            }
        };
        Ok(self.restore_after(Stage::Verify, error).await)
    }
}

/// How a service is checked: the path to ask for, and what the request says about the answer.
pub(super) fn health_check_of(request: &ProjectReady, service: &str) -> (String, HealthCheck) {
    let allocation = request.allocations.iter().find(|a| a.service.as_str() == service);
    let check = allocation.and_then(|a| a.health.clone()).unwrap_or_default();
    // A backend has a health page; a frontend is asked for its start page.
    let usual = if service == "backend" { "/health" } else { "/" };
    (check.path.as_ref().map_or(usual, |path| path.as_str()).to_owned(), check)
}

/// The web service's page first, then those of other modules for which the request has a check.
fn pages(request: &ProjectReady, host: &str) -> Vec<Page> {
    let page = |allocation: &Allocation| {
        let (path, check) = health_check_of(request, allocation.service.as_str());
        Page {
            service: allocation.service.clone(),
            port: allocation.host_port,
            base: format!("http://{host}:{}", allocation.host_port),
            inner: allocation.container_port,
            path,
            check,
        }
    };
    let web = request.web();
    let others = request.allocations.iter().filter(|a| {
        a.health.is_some() && request.modules.contains(&a.service) && web.is_none_or(|web| web.service != a.service)
    });
    web.into_iter().chain(others).map(page).collect()
}

fn expected(check: &HealthCheck) -> String {
    if check.statuses.is_empty() {
        return "200 to 399".to_owned();
    }
    let statuses: Vec<String> = check.statuses.iter().map(u16::to_string).collect();
    statuses.join(" or ")
}

async fn probe(client: &reqwest::Client, url: &str, check: &HealthCheck, commit: &CommitSha) -> ProbeResult {
    let mut response = match client.get(url).send().await {
        Ok(response) => response,
        Err(e) if e.is_connect() => return ProbeResult::Unreachable,
        Err(e) if e.is_timeout() => return ProbeResult::Mute("gives no answer in time"),
        Err(_) => return ProbeResult::Mute("what it answers isn't HTTP"),
    };
    let status = response.status().as_u16();
    if !check.accepts(status) {
        return ProbeResult::Answers(status);
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_PAGE_BYTES {
            break;
        }
    }
    match read_commit(&body, commit) {
        ServedCommit::Same => ProbeResult::Healthy(status, true),
        ServedCommit::Other(commit) => ProbeResult::OtherVersion(commit, status),
        ServedCommit::Unknown => ProbeResult::Healthy(status, false),
    }
}
