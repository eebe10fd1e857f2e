//! Verify, for domains: each one answers over HTTPS with a certificate that counts, seen from the worker. The front door gets
//! it from an authority by itself, and says why where it gets none; both are told. Where a domain leads is looked up before
//! anything is changed, in `domains`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use slipway_protocol::{DomainName, ErrorCode, HealthCheck, Stage};
use tokio::time::Instant;

use super::domains::server_addresses;
use super::door::with_door;
use super::service_check::health_check_of;
use super::verify::{PROBE_INTERVAL, expected, patience};
use crate::http::{chain, domain_client};
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, FrontDoorFacts, StageError, StageReport};

/// A domain, what is asked for there, and which answer is well.
struct CheckedDomain {
    domain: DomainName,
    path: String,
    health: HealthCheck,
}

/// Why a domain isn't as it has to be.
enum DomainDefect {
    /// No answer, in these words.
    Silent(String),
    /// An answer that isn't well.
    Answers(u16),
}

impl Attempt {
    /// Where people find the project, if that's a domain.
    pub(super) fn secured_url(&self) -> Option<String> {
        self.front_door()?;
        let request = &self.work.request;
        let web = request.web().map(|web| &web.service);
        let first = request.domains().min_by_key(|(service, _)| web != Some(*service))?.1;
        Some(format!("https://{first}"))
    }

    /// Waits until each domain answers as its service has to, and adds to the report which ones do.
    pub(super) async fn verify_domains(&mut self, report: StageReport) -> Result<StageReport, StageError> {
        let checked = self.checked_domains();
        if checked.is_empty() {
            return Ok(report);
        }
        let configured = self.config().health_timeout;
        let until =
            Instant::now() + checked.iter().map(|c| patience(&c.health, configured)).max().unwrap_or(configured);
        let server = server_addresses(&self.work.target.address).await.unwrap_or_default();
        let server: Vec<_> = server.into_iter().map(|address| SocketAddr::new(address, 443)).collect();
        let names = checked.iter().map(|checked| checked.domain.as_str());
        let client = domain_client(self.config().ca_file.as_deref(), names, &server)?;
        for domain in &checked {
            while let Some(defect) = ask(&client, domain).await {
                if Instant::now() >= until {
                    return Err(self.explain_domain(domain, defect).await?);
                }
                if self.cancel.run_until_cancelled(tokio::time::sleep(PROBE_INTERVAL)).await.is_none() {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "verifying was cancelled"));
                }
            }
        }
        let names: Vec<&str> = checked.iter().map(|checked| checked.domain.as_str()).collect();
        let report = report.fact("domains", names.clone());
        match checked.first() {
            // They have come since stage compose has looked at the door.
            Some(first) if !self.certified(&names) => Ok(with_door(report, &self.look_at_door(&first.domain).await?)),
            _ => Ok(report),
        }
    }

    fn checked_domains(&self) -> Vec<CheckedDomain> {
        if self.front_door().is_none() {
            return Vec::new();
        }
        let request = &self.work.request;
        let checked = request.domains().map(|(service, domain)| {
            let (path, health) = health_check_of(request, service.as_str());
            CheckedDomain { domain: domain.clone(), path, health }
        });
        checked.collect()
    }

    /// Whether stage compose has seen a certificate for each of these, or has been left out since nothing has changed.
    fn certified(&self, domains: &[&str]) -> bool {
        let Some(facts) = self.left.finished.get(&Stage::Compose).and_then(|facts| facts.get(FrontDoorFacts::FACT))
        else {
            return self.left.unchanged.is_some();
        };
        let certificates = facts["certificates"].as_array().into_iter().flatten();
        let have: BTreeSet<&str> = certificates.filter_map(|certificate| certificate["domain"].as_str()).collect();
        domains.iter().all(|domain| have.contains(domain))
    }

    async fn look_at_door(&mut self, domain: &DomainName) -> Result<ScriptOutput, StageError> {
        let script = Script::new("front door", scripts::DOOR_STATE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("domain", domain);
        self.exec_or(Stage::Verify, &script, ErrorCode::FrontDoorFailed, "the front door can't be looked at").await
    }

    /// The error for a domain that has no certificate, or isn't answered for.
    async fn explain_domain(&mut self, asked: &CheckedDomain, defect: DomainDefect) -> Result<StageError, StageError> {
        let CheckedDomain { domain, path, health } = asked;
        let why = match defect {
            DomainDefect::Answers(status) => {
                let message = format!("https://{domain}{path} answers {status}; {} is healthy", expected(health));
                let error = StageError::new(ErrorCode::NotHealthy, message);
                return Ok(self.restore_after(Stage::Verify, error).await);
            }
            DomainDefect::Silent(why) => why,
        };
        let seen = self.look_at_door(domain).await?;
        // The release before it would have none either.
        let message = match seen.value("said").and_then(read_log) {
            Some(said) => format!("the certificate authority gave no certificate for domain {domain}: {said}"),
            None => {
                format!("domain {domain} has no certificate that counts, and the front door doesn't say why: {why}")
            }
        };
        Ok(StageError::new(ErrorCode::CertificateFailed, message))
    }
}

/// Asks for a domain's page once.
async fn ask(client: &reqwest::Client, asked: &CheckedDomain) -> Option<DomainDefect> {
    match client.get(format!("https://{}{}", asked.domain, asked.path)).send().await {
        Ok(answer) if asked.health.accepts(answer.status().as_u16()) => None,
        Ok(answer) => Some(DomainDefect::Answers(answer.status().as_u16())),
        Err(error) => Some(DomainDefect::Silent(chain(&error))),
    }
}

/// What a line of the door's log says in words.
fn read_log(line: &str) -> Option<String> {
    let line = line.trim();
    let Ok(entry) = serde_json::from_str::<Value>(line) else {
        return (!line.is_empty()).then(|| line.to_owned());
    };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let said = text(&entry["error"]).or_else(|| text(&entry["problem"]["detail"])).or_else(|| text(&entry["msg"]));
    said.or_else(|| (entry != json!({})).then(|| line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_of_the_doors_log_the_words_of_the_authority_are_told() {
        for (line, said) in [
            ("", None),
            ("{}", None),
            ("not JSON, [a.example]", Some("not JSON, [a.example]")),
            (r#"{"level":"error","msg":"will retry","error":"HTTP 403: no"}"#, Some("HTTP 403: no")),
            (
                r#"{"msg":"challenge failed","problem":{"type":"x","detail":"connection refused"}}"#,
                Some("connection refused"),
            ),
            (r#"{"msg":"waiting"}"#, Some("waiting")),
            (r#"{"level":"error"}"#, Some(r#"{"level":"error"}"#)),
        ] {
            assert_eq!(read_log(line).as_deref(), said, "{line}");
        }
    }
}
