//! Compose: images pulled, containers started, health proven. What it has failed by is told in `start_failure`.

use secrecy::ExposeSecret as _;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{Action, ServiceReport, Stage};

use super::after_ci::are_kept;
use super::door::{add_replacements, with_door};
use super::service_check::{CheckedService, ServiceCheck, checked_services};
use super::start_failure::explain_failure;
use super::verify::warm_up;
use crate::project::grants::JudgedModel;
use crate::project::image_tag;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn compose(&mut self) -> Result<StageReport, StageError> {
        let outcome = self.run_compose("").await?;
        let output = match &outcome {
            Ok(output) | Err(output) => output,
        };
        let mut services = parse_services(output);
        add_replacements(&mut services, output);
        if outcome.is_err() {
            let error = StageError { services: services.into(), ..explain_failure(output) };
            // Whatever a move leaves here is taken away.
            let touched = output.value("phase") != Some("pull") && self.work.action != Action::Move;
            return Err(if touched { self.restore_after(Stage::Compose, error).await } else { error });
        }
        self.note_firewall(output);
        let mut report = StageReport::of(output.value("change") == Some("changed"))
            .fact("services", services.len())
            .fact("rehearsed", output.values("rehearsed"));
        if let Some(proof) = output.value("proof") {
            report = report.fact("proof", proof);
        }
        report.services = services;
        Ok(with_door(report, output))
    }

    /// Pulls the images alone, while what is to be replaced serves elsewhere.
    pub(super) async fn pull_ahead(&mut self) -> Result<(), StageError> {
        match self.run_compose("pulled").await? {
            Ok(_) => Ok(()),
            Err(output) => Err(explain_failure(&output)),
        }
    }

    async fn run_compose(&mut self, until: &'static str) -> Result<Result<ScriptOutput, ScriptOutput>, StageError> {
        let env = self.known_env(Stage::Compose).await?;
        // A digest and the tag of a commit never move; any other tag may.
        let images = || env.iter().filter(|(name, _)| name.ends_with("_IMAGE")).map(|(_, image)| image);
        let own = self.own_images();
        let fixed =
            images().all(|image| image_tag::is_fixed(image)) || are_kept(&self.work.request, images(), own.as_str());
        if let Some(image) = images().find(|image| image.starts_with(own.as_str())) {
            self.try_login(image).await;
        }
        let (rehearsed, bots) = self.rehearsed_and_bots();
        let judged = self.judged_model().await?;
        let paths: String = judged.paths.iter().map(|path| format!("{path}\n")).collect();
        let script = Script::new("compose", scripts::COMPOSE)
            .hex("judged", &judged.digest)
            .bytes("paths", paths.as_bytes())
            .words("rehearsed", &rehearsed)
            .words("bots", &bots)
            .bytes("checks", self.rehearsal_checks().as_bytes())
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .bytes("auth", self.registry_login().expose_secret().as_bytes())
            .word("policy", &if fixed { "missing" } else { "always" })
            .number("limit", self.script_limit())
            .number("patience", self.config().health_timeout.as_secs())
            .word("wanted_commit", &self.work.request.repository.commit)
            .word("door", &self.door_image())
            .bytes("acme", self.acme_lines().expose_secret().as_bytes())
            .number("drain", self.drain_seconds())
            .number("proving", self.proving_seconds())
            .words("ports", &super::published_ports(&self.work.request))
            // It was migrated when it came, and may refuse what later ones have made of the data.
            .word("putting_back", &if self.work.action == Action::Rollback { "yes" } else { "" })
            .word("until", &until);
        if until.is_empty() {
            self.ask_github_ahead(&env);
        }
        self.exec(Stage::Compose, &script).await
    }

    /// What stage env has judged, or else, where an earlier attempt has run it, what is there now.
    async fn judged_model(&mut self) -> Result<JudgedModel, StageError> {
        if let Some(judged) = &self.judged {
            return Ok(judged.clone());
        }
        let seen = self.read_env(Stage::Compose).await?;
        self.judge_model(Stage::Compose, &seen.model).await
    }

    /// What `rehearse.sh` asks each service for: lines `SERVICE PORT HOST WARM_UP STATUSES PATH`.
    pub(super) fn rehearsal_checks(&self) -> String {
        let checked = checked_services(&self.work.request, &self.work.target.address.url_form());
        let line = |checked: &CheckedService| {
            let ServiceCheck::Page { path, health } = &checked.check else { return None };
            let statuses: Vec<String> = health.statuses.iter().map(u16::to_string).collect();
            let statuses = if statuses.is_empty() { "-".to_owned() } else { statuses.join(",") };
            let warm_up = warm_up(health, self.config().health_timeout).as_secs();
            let (CheckedService { service, inner, .. }, host) = (checked, checked.asked_host());
            Some(format!("{service} {inner} {host} {warm_up} {statuses} {path}\n"))
        };
        checked.iter().filter_map(line).collect()
    }

    /// The web services, and the other modules: each of these may be a bot, with or without a port, and two bots must not
    /// run with one token.
    pub(super) fn rehearsed_and_bots(&self) -> (Vec<ServiceName>, Vec<ServiceName>) {
        self.work.request.modules.iter().cloned().partition(ServiceName::serves_web)
    }
}

/// The services as the gate script reports them.
pub(super) fn parse_services(output: &ScriptOutput) -> Vec<ServiceReport> {
    output.values("service").iter().filter_map(|line| parse_service(line)).collect()
}

/// `service state health restarts exit-code image`.
pub(super) fn parse_service(line: &str) -> Option<ServiceReport> {
    let mut columns = line.split(' ');
    let service = ServiceName::new(columns.next()?).ok()?;
    let state = columns.next()?.to_owned();
    let health = columns.next().filter(|h| *h != "-").map(str::to_owned);
    let restarts = columns.next()?.parse().ok()?;
    let image = columns.nth(1)?.to_owned();
    Some(ServiceReport { service, state, health, image, restarts, replaced: None })
}
