//! Firewall: the ufw rule of the project's ports. Ports that Docker publishes bypass ufw, so the rules say what shall
//! be open rather than make it so; the verify stage tells what really is.

use slipway_protocol::{ErrorCode, Stage};

use crate::script::{PROJECT, Script};
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn firewall(&mut self) -> Result<StageReport, StageError> {
        let script = Script::new("firewall", &[PROJECT, include_str!("../scripts/firewall.sh")])
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .words("ports", &super::published(&self.work.request));
        let said = self
            .exec(Stage::Firewall, &script)
            .await?
            .map_err(|said| StageError::new(ErrorCode::FirewallFailed, "ufw failed").with_tail(said.tail()))?;
        let numbers = |key| said.values(key).iter().map(|v| serde_json::Value::from(v.as_str())).collect::<Vec<_>>();
        let (added, removed) = (numbers("added"), numbers("removed"));
        Ok(StageReport::of(!(added.is_empty() && removed.is_empty()))
            .fact("ufw", said.value("ufw").unwrap_or("unknown"))
            .fact("opened", added)
            .fact("closed", removed))
    }
}
