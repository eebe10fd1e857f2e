//! Verify: the project answers as told, seen from the worker. Listening, reachable and healthy are three things; a
//! container's own health check can be green while the port isn't published.

use std::time::Duration;

use slipway_protocol::{Allocation, ErrorCode, Stage};
use tokio::time::Instant;

use crate::script::Script;
use crate::{Attempt, StageError, StageReport};

/// How long one question may go unanswered.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a project that answers, but not well, may take to change its mind.
pub const WARM_UP: Duration = Duration::from_secs(20);

/// A client that follows no redirects and asks no proxy: it shall see what anybody sees.
///
/// # Errors
/// `internal-error` when TLS can't be set up.
pub(crate) fn client() -> Result<reqwest::Client, StageError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PROBE_TIMEOUT)
        .build()
        .map_err(|e| StageError::new(ErrorCode::InternalError, format!("no HTTP client: {e}")))
}

enum Seen {
    Healthy(u16),
    Answers(u16),
    Silent(String),
}

impl Attempt {
    pub(crate) async fn verify(&mut self) -> Result<StageReport, StageError> {
        let Some(web) = self.work.request.web().cloned() else {
            return Err(StageError::new(ErrorCode::InternalError, "the request has no web service"));
        };
        let url = format!("http://{}:{}", self.work.target.address.url_form(), web.host_port);
        let path = path(web.service.as_str());
        let page = format!("{url}{path}");
        let started = Instant::now();
        loop {
            let seen = tokio::select! {
                seen = probe(self.probe(), &page) => seen,
                () = self.cancel.cancelled() => {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "verifying was cancelled"));
                }
            };
            let waited = started.elapsed();
            match seen {
                Seen::Healthy(status) => {
                    let mut report = StageReport::of(false)
                        .fact("listening", true)
                        .fact("reachable", true)
                        .fact("healthy", true)
                        .fact("path", path)
                        .fact("status", status);
                    report.url = Some(url);
                    return Ok(report);
                }
                Seen::Answers(status) if waited >= WARM_UP.min(self.config().health_timeout) => {
                    let message = format!("{page} answers {status}; 200 to 399 is healthy");
                    let error = StageError::new(ErrorCode::NotHealthy, message);
                    return Err(self.put_back(Stage::Verify, error).await);
                }
                Seen::Silent(why) if waited >= self.config().health_timeout => {
                    return Err(self.silent(&web, &url, &why).await?);
                }
                Seen::Answers(_) | Seen::Silent(_) => tokio::time::sleep(PROBE_INTERVAL).await,
            }
        }
    }

    /// Tells a port on which nothing listens from one that the worker can't reach.
    async fn silent(&mut self, web: &Allocation, url: &str, why: &str) -> Result<StageError, StageError> {
        let script = Script::new("listening", &[include_str!("../scripts/listening.sh")]).word("port", &web.host_port);
        let said = self.exec(Stage::Verify, &script).await?;
        let listening = said.is_ok_and(|said| said.value("listening").is_some());
        if listening {
            // The release before it wouldn't be reached either.
            let message = format!("{url} listens on the server, but from here: {why}");
            return Ok(StageError::new(ErrorCode::NotReachable, message));
        }
        let message = format!("nothing listens on port {} of the server", web.host_port);
        Ok(self.put_back(Stage::Verify, StageError::new(ErrorCode::NotListening, message)).await)
    }
}

/// A backend tells its health; a frontend shows its page.
pub(super) fn path(service: &str) -> &'static str {
    if service == "backend" { "/health" } else { "/" }
}

async fn probe(client: &reqwest::Client, url: &str) -> Seen {
    match client.get(url).send().await {
        Ok(response) => {
            let status = response.status();
            if status.is_success() || status.is_redirection() {
                Seen::Healthy(status.as_u16())
            } else {
                Seen::Answers(status.as_u16())
            }
        }
        Err(e) if e.is_timeout() => Seen::Silent("no answer in time".to_owned()),
        Err(e) if e.is_connect() => Seen::Silent("no connection".to_owned()),
        Err(_) => Seen::Silent("the answer isn't HTTP".to_owned()),
    }
}
