//! Moving: a deployment on one server that takes the project away from another one. That one serves until the new one is
//! proven; its services are stopped first only where both mustn't run: bots, and what writes the data that is copied.
//! Whatever fails, what was brought goes, and what was stopped runs again. When which is done is decided by the worker; how
//! data are copied is in `move_data`, and how a move is taken back in `move_back`.

use serde_json::json;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{Action, ErrorCode, MoveData, MoveReport, Stage, VolumeName};

use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::stages::move_state::MoveState;
use crate::stages::server_env::decode_file;
use crate::{Attempt, StageError, StageReport, scripts};

impl Attempt {
    pub(crate) async fn move_stage(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        match stage {
            Stage::Preflight => {
                self.require_another_machine().await?;
                self.look_at_departure().await?;
                let report = self.deploy_stage(stage).await?;
                let volumes: Vec<_> = self.moving.volumes.iter().map(VolumeName::as_str).collect();
                let from = self.work.moving.as_ref().map(|departure| departure.target.handle.as_str());
                Ok(report.fact("moves_from", from).fact("volumes", volumes))
            }
            Stage::Clone => {
                self.bring_settings().await?;
                self.deploy_stage(stage).await
            }
            Stage::Compose => {
                if self.must_be_quiet() {
                    self.pull_ahead().await?;
                    self.quiet_former().await?;
                    self.copy_data().await?;
                }
                self.deploy_stage(stage).await
            }
            Stage::Verify => {
                let report = self.deploy_stage(stage).await?;
                let told = self.departure("read", &[], 0).await?;
                let (since, now) = (number(&told, "since"), number(&told, "now"));
                let gap = if since == 0 { 0 } else { now.saturating_sub(since) };
                let volumes = if number(&told, "copied") == 0 { &[] } else { self.moving.volumes.as_slice() };
                let (bytes, left) = (number(&told, "copied"), &self.moving.unnamed);
                let moved = json!({ "gap_ms": gap, "bytes": bytes, "volumes": volumes, "left_volumes": left });
                Ok(report.fact(MoveReport::FACT, moved))
            }
            Stage::Secrets => {
                self.moving.wrote_secrets = true;
                let report = self.deploy_stage(stage).await?;
                if self.moving.was_stopped {
                    self.stop().await?;
                }
                Ok(report)
            }
            Stage::Env | Stage::Firewall => self.deploy_stage(stage).await,
        }
    }

    /// Refuses a server that is the same machine under another name: what a move removes there would be what it moves.
    async fn require_another_machine(&mut self) -> Result<(), StageError> {
        let script = Script::new("machine", scripts::MACHINE).word("root", self.root());
        let message = "which machine the server is couldn't be seen";
        let there = {
            let script = script.clone();
            self.on_former(|former| {
                Box::pin(
                    async move { former.exec_or(Stage::Preflight, &script, ErrorCode::InternalError, message).await },
                )
            })
            .await?
        };
        let here = self.exec_or(Stage::Preflight, &script, ErrorCode::InternalError, message).await?;
        let (Some(here), Some(there)) = (here.value("machine"), there.value("machine")) else { return Ok(()) };
        if here != there {
            return Ok(());
        }
        let from = self.work.moving.as_ref().map(|departure| departure.target.handle.as_str()).unwrap_or_default();
        let message = format!("{} and {from} are one machine: the project is there already", self.work.target.handle);
        Err(StageError::new(ErrorCode::AlreadyOnServer, message))
    }

    /// What the project has there; refuses data that nobody said what becomes of.
    async fn look_at_departure(&mut self) -> Result<(), StageError> {
        let told = self.departure("look", &[], 0).await?;
        let volumes = told.values("volume").iter().map(|name| VolumeName::new(name.clone()));
        let volumes: Vec<VolumeName> = volumes.collect::<Result<_, _>>().map_err(|_| {
            StageError::new(ErrorCode::CopyFailed, "a volume of the project has a name that can't be copied")
        })?;
        let since = number(&told, "since");
        self.moving = MoveState {
            size_kb: number(&told, "size_kb"),
            env: decode_file(&told, "env")?,
            sealed: decode_file(&told, "sealed")?,
            since,
            was_stopped: since == 0 && told.value("stopped").is_some(),
            volumes,
            unnamed: told.values("unnamed").to_vec(),
            ..MoveState::default()
        };
        let Some(departure) = &self.work.moving else { return Ok(()) };
        let (slug, from) = (&self.work.request.project.slug, &departure.target.handle);
        let refuse =
            |why: String| Err(StageError::new(ErrorCode::DataInVolumes, format!("{slug} has data on {from}{why}")));
        let paths = told.values("path");
        if !paths.is_empty() {
            return refuse(format!(
                " in its directory, at {}, which a move can't copy: it takes nothing but what git has and what is in volumes; have the project keep that in a volume with a name",
                paths.join(", ")
            ));
        }
        if departure.data == MoveData::Copy {
            return Ok(());
        }
        let named: Vec<_> = self.moving.volumes.iter().map(VolumeName::as_str).collect();
        let told = "and the move wasn't told what becomes of them";
        match (named.as_slice(), self.moving.unnamed.as_slice()) {
            ([], []) => {}
            (named, []) => return refuse(format!(", in the volumes {}, {told}", named.join(", "))),
            (named, unnamed) => {
                let (named, unnamed) = (named.join(", "), unnamed.join(", "));
                let both = if named.is_empty() { String::new() } else { format!("{named}, and ") };
                return refuse(format!(
                    ", in the volumes {both}those without a name of {unnamed}, {told}; these stay there in any case, since \
                     only what has a name can be copied"
                ));
            }
        }
        Ok(())
    }

    /// Whether services have to be stopped before the new ones start.
    fn must_be_quiet(&self) -> bool {
        !self.moving.volumes.is_empty() || !self.bots_there().is_empty()
    }

    fn bots_there(&self) -> Vec<ServiceName> {
        self.rehearsed_and_bots().1
    }

    /// Whether what runs on the new server may be what a move has proven: what had to be stopped for it is stopped still.
    pub(super) fn may_be_arrived(&self) -> bool {
        self.work.action != Action::Move || !self.must_be_quiet() || self.moving.since != 0 || self.moving.was_stopped
    }

    /// The settings that operators wrote and Slipway drew, for a project that has none here yet.
    async fn bring_settings(&mut self) -> Result<(), StageError> {
        let script = Script::new("arrive", scripts::ARRIVE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("env", &self.moving.env)
            .bytes("sealed", &self.moving.sealed);
        let message = "what goes with the project couldn't be written";
        self.exec_or(Stage::Clone, &script, ErrorCode::EnvWriteFailed, message).await.map(drop)
    }

    async fn quiet_former(&mut self) -> Result<(), StageError> {
        if self.moving.was_stopped {
            return Ok(());
        }
        let bots = self.bots_there();
        let told = self.departure("quiet", &bots, 0).await?;
        self.moving.since = number(&told, "since");
        if !self.moving.volumes.is_empty() {
            self.on_former(|former| Box::pin(former.stop())).await?;
        }
        Ok(())
    }

    /// Runs a step of `departure.sh` on the server that the project leaves.
    pub(super) async fn departure(
        &mut self,
        step: &'static str,
        bots: &[ServiceName],
        copied: u64,
    ) -> Result<ScriptOutput, StageError> {
        let (root, slug) = (self.root().clone(), self.work.request.project.slug.clone());
        let script = Script::new("departure", scripts::DEPARTURE)
            .word("root", &root)
            .word("slug", &slug)
            .word("step", &step)
            .words("bots", bots)
            .number("copied", copied);
        let message = "what the project has on the server that it leaves couldn't be seen";
        self.on_former(move |former| {
            Box::pin(async move { former.exec_or(Stage::Preflight, &script, ErrorCode::InternalError, message).await })
        })
        .await
    }

    /// Does something on the server that the project leaves.
    pub(super) async fn on_former<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> std::pin::Pin<Box<dyn Future<Output = Result<T, StageError>> + Send + '_>>,
    ) -> Result<T, StageError> {
        let Some(former) = &mut self.former else {
            return Err(StageError::new(ErrorCode::InternalError, "a move has no server to leave"));
        };
        former.cancel = self.cancel.clone();
        let outcome = work(former).await;
        outcome.map_err(|error| {
            let error = former.redactor.tell_error(error);
            if !error.code.is_connection_failure() {
                return error;
            }
            former.drop_session();
            // The circuit of the new server isn't what this is about.
            StageError { code: ErrorCode::FormerServerUnreachable, ..error }
        })
    }
}

fn number(output: &ScriptOutput, key: &str) -> u64 {
    output.value(key).and_then(|value| value.parse().ok()).unwrap_or(0)
}
