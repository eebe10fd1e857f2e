//! Verify: the project answers, seen from the worker. Listening, reachable and healthy are three things; a container's
//! own health check can be green while the port isn't published. Which commit answers is a fourth, where the page says
//! it: that is read in `served_commit`. Who is asked for what is decided in `service_check`.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::names::{CommitSha, Port};
use slipway_protocol::{Action, ErrorCode, Exposed, HealthCheck, Stage};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::served_commit::{ServedCommit, read_commit};
use super::service_check::{CheckedService, ServiceCheck, checked_services};
use crate::http::{PROBE_TIMEOUT, page_request};
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a project may go on answering badly before verify fails.
pub const WARM_UP: Duration = Duration::from_secs(20);
/// How much of a page is read to find its commit.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// How long a connection must last: Docker's proxy takes one for a program that doesn't listen, and ends it at once.
const CONNECTION_LASTS: Duration = Duration::from_millis(500);

enum ProbeResult {
    /// A healthy answer, and whether it names the deployed commit.
    Healthy(u16, bool),
    /// A healthy answer of this other commit, and its status.
    OtherVersion(String, u16),
    Answers(u16),
    /// The connection is accepted, and no more is asked.
    Accepts,
    /// The connection is accepted, but no HTTP answer comes in time.
    Mute(&'static str),
    /// The connection is refused, or not accepted in time.
    Unreachable,
}

/// What to do about a firewall that is on the server itself, and isn't ours to change.
fn open_in(firewall: &str, port: Port) -> String {
    match firewall {
        "firewalld" => format!(
            ": firewalld runs on the server, where `firewall-cmd --permanent --add-port={port}/tcp` and `firewall-cmd \
             --reload` open it"
        ),
        _ => format!(
            ": the server's own iptables let in nothing but what they name (`iptables -S INPUT`), where a rule for tcp port \
             {port} opens it; keep it over reboots"
        ),
    }
}

impl Attempt {
    pub(crate) async fn verify(&mut self) -> Result<StageReport, StageError> {
        let checked = checked_services(&self.work.request, &self.work.target.address.url_form());
        let Some(web) = checked.first() else {
            return Err(StageError::new(ErrorCode::InternalError, "the request has no web service"));
        };
        let secured = self.secured_url();
        let url = secured.unwrap_or_else(|| format!("http://{}", web.authority));
        let mut answers = Vec::new();
        for service in &checked {
            answers.push(match self.left.answers.get(&service.port) {
                Some(answer) => answer.clone(),
                None => self.wait_until_healthy(service).await?,
            });
        }
        let first = |name: &str| answers.first().map_or(Value::Null, |answer| answer[name].clone());
        let mut report = StageReport::of(false)
            .fact("listening", true)
            .fact("reachable", true)
            .fact("healthy", true)
            .fact("path", first("path"))
            .fact("status", first("status"))
            .fact("commit_checked", answers.iter().any(|answer| answer["commit_checked"] == true))
            .fact("services", answers);
        // Stage firewall has looked too early for what had just been started.
        if let Some(exposed) = self.look_at_published_ports().await {
            report = report.fact(Exposed::FACT, json!(exposed));
        }
        report.url = Some(url);
        self.verify_domains(report).await
    }

    /// Waits until a service answers as it must; gives what is reported of it.
    async fn wait_until_healthy(&mut self, checked: &CheckedService) -> Result<Value, StageError> {
        let (service, port) = (checked.service.as_str(), checked.port);
        let (path, health) = match &checked.check {
            ServiceCheck::Page { path, health } => (path.as_str(), health.clone()),
            ServiceCheck::Connection => ("", HealthCheck::default()),
        };
        let url = format!("http://{}{path}", checked.authority);
        let configured = self.config().health_timeout;
        let (until_it_speaks, until_it_agrees) = (patience(&health, configured), warm_up(&health, configured));
        let started = Instant::now();
        loop {
            let seen = tokio::select! {
                seen = probe_service(self.probe().clone(), checked, &self.work.request.repository.commit) => seen,
                () = self.cancel.cancelled() => {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "verifying was cancelled"));
                }
            };
            let waited = started.elapsed();
            match seen {
                ProbeResult::Healthy(..) | ProbeResult::Accepts => return Ok(describe_answer(checked, &seen)),
                // A start starts what is there, which may have come by CI since.
                ProbeResult::OtherVersion(_, status) if self.work.action == Action::Start => {
                    return Ok(json!({
                        "service": service, "port": port, "path": path, "status": status, "commit_checked": false,
                    }));
                }
                // The front door's own answer where nobody takes what it passes on.
                ProbeResult::Answers(502 | 503) if self.front_door().is_some() && waited >= until_it_speaks => {
                    return Err(self
                        .explain_silence(checked, Some("doesn't answer what the front door passes on"))
                        .await?);
                }
                ProbeResult::Answers(502 | 503) if self.front_door().is_some() => {
                    tokio::time::sleep(PROBE_INTERVAL).await;
                }
                ProbeResult::Answers(status) if waited >= until_it_agrees => {
                    let message =
                        format!("service {service}: {url} answers {status}; {} is healthy", expected(&health));
                    let error = StageError::new(ErrorCode::NotHealthy, message);
                    return Err(self.restore_after(Stage::Verify, error).await);
                }
                ProbeResult::OtherVersion(commit, _) if waited >= until_it_agrees => {
                    let message = format!("service {service}: {url} answers as commit {commit}");
                    let error = StageError::new(ErrorCode::WrongVersion, message);
                    return Err(self.restore_after(Stage::Verify, error).await);
                }
                ProbeResult::Mute(why) if waited >= until_it_speaks => {
                    return Err(self.explain_silence(checked, Some(why)).await?);
                }
                ProbeResult::Unreachable if waited >= until_it_speaks => {
                    return Err(self.explain_silence(checked, None).await?);
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
    async fn explain_silence(
        &mut self,
        checked: &CheckedService,
        mute: Option<&str>,
    ) -> Result<StageError, StageError> {
        let script = Script::new("listening", scripts::LISTENING)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("service", &checked.service)
            .word("port", &checked.port)
            .word("inner", &checked.inner);
        let output = self.exec(Stage::Verify, &script).await?;
        let told = |key| output.as_ref().ok().and_then(|output| output.value(key));
        let listening = told("listening").is_some();
        let error = match mute {
            _ if !listening => {
                let message = format!(
                    "service {} doesn't listen where port {} of the server leads: it must on port {} of its container, \
                     on all addresses",
                    checked.service, checked.port, checked.inner
                );
                StageError::new(ErrorCode::NotListening, message)
            }
            Some(why) => {
                let message =
                    format!("service {} takes connections at {}, but {why}", checked.service, checked.authority);
                StageError::new(ErrorCode::NotHealthy, message)
            }
            None => {
                // The release before it wouldn't be reached either.
                let message = format!(
                    "service {} listens on the server, but no connection to {} can be made from here{}",
                    checked.service,
                    checked.authority,
                    told("closed_by").map_or_else(String::new, |firewall| open_in(firewall, checked.port))
                );
                return Ok(StageError::new(ErrorCode::NotReachable, message));
            }
        };
        Ok(self.restore_after(Stage::Verify, error).await)
    }
}

/// How long a service may take until it speaks.
pub(super) fn patience(check: &HealthCheck, configured: Duration) -> Duration {
    check.timeout_seconds.map_or(configured, |seconds| Duration::from_secs(seconds.into()))
}

/// How long it may go on answering badly.
pub(super) fn warm_up(check: &HealthCheck, configured: Duration) -> Duration {
    patience(check, WARM_UP.min(configured))
}

/// The statuses of a healthy answer, in words.
pub(super) fn expected(check: &HealthCheck) -> String {
    if check.statuses.is_empty() {
        return "200 to 399".to_owned();
    }
    let statuses: Vec<String> = check.statuses.iter().map(u16::to_string).collect();
    statuses.join(" or ")
}

/// Asks all services once, beside whatever else is done; gives what is reported of those that answer as they must.
pub(super) fn ask_all(
    client: &reqwest::Client,
    checked: Vec<CheckedService>,
    commit: &CommitSha,
) -> JoinSet<SeenAnswer> {
    let mut asking = JoinSet::new();
    for checked in checked {
        let (client, commit) = (client.clone(), commit.clone());
        asking.spawn(async move {
            let seen = probe_service(client, &checked, &commit).await;
            let healthy = matches!(seen, ProbeResult::Healthy(..) | ProbeResult::Accepts);
            (checked.port, healthy.then(|| describe_answer(&checked, &seen)))
        });
    }
    asking
}

/// A port, and what is reported of a healthy answer there.
pub(super) type SeenAnswer = (Port, Option<Value>);

fn describe_answer(checked: &CheckedService, seen: &ProbeResult) -> Value {
    let (service, port) = (checked.service.as_str(), checked.port);
    match (&checked.check, seen) {
        (ServiceCheck::Page { path, .. }, ProbeResult::Healthy(status, commit_checked)) => json!({
            "service": service, "port": port, "path": path, "status": status, "commit_checked": commit_checked,
        }),
        _ => json!({ "service": service, "port": port, "accepts": true }),
    }
}

async fn probe_service(client: reqwest::Client, checked: &CheckedService, commit: &CommitSha) -> ProbeResult {
    match &checked.check {
        ServiceCheck::Page { path, health } => {
            probe(&client, &format!("http://{}{path}", checked.authority), health, commit).await
        }
        ServiceCheck::Connection => try_connection(&checked.authority).await,
    }
}

async fn probe(client: &reqwest::Client, url: &str, check: &HealthCheck, commit: &CommitSha) -> ProbeResult {
    let mut response = match page_request(client, url, check).send().await {
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

/// Whether a connection is accepted and kept.
async fn try_connection(authority: &str) -> ProbeResult {
    let Ok(Ok(mut stream)) = timeout(PROBE_TIMEOUT / 2, TcpStream::connect(authority)).await else {
        return ProbeResult::Unreachable;
    };
    match timeout(CONNECTION_LASTS, stream.read_u8()).await {
        Ok(Err(_)) => ProbeResult::Mute("ends them at once"),
        // It speaks, or it waits for us to speak.
        Ok(Ok(_)) | Err(_) => ProbeResult::Accepts,
    }
}
