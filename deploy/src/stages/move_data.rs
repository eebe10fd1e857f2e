//! Copying a project's volumes from one server to another, while nothing writes them: one archive each, from the one over the
//! worker to the other. What arrives is a stranger's: the script that unpacks it sees to that.

use slipway_protocol::{ErrorCode, Stage, VolumeName};

use crate::remote::script::Script;
use crate::remote::ssh::stream::{EndedStream, StreamLimits, stream};
use crate::{Attempt, StageError, scripts};

/// By how much an archive may be larger than what its files take of the disk: each has a head, and ends with zeros.
const SLACK: u64 = 256 * 1024 * 1024;

impl Attempt {
    /// Copies all volumes, and notes how much that was.
    pub(super) async fn copy_data(&mut self) -> Result<(), StageError> {
        let mut bytes = 0;
        for volume in self.moving.volumes.clone() {
            self.report_line(Stage::Compose, &format!("copying volume {}", volume.as_str()));
            bytes += self.copy_volume(&volume).await?;
        }
        if bytes > 0 {
            self.departure("copied", &[], bytes).await?;
        }
        Ok(())
    }

    async fn copy_volume(&mut self, volume: &VolumeName) -> Result<u64, StageError> {
        let (pack, unpack) = (self.pack_script(volume), self.unpack_script(volume));
        let most = self.moving.size_kb.saturating_mul(2 * 1024).saturating_add(SLACK);
        // Both are connected already: each has run a script.
        let Self { session, former, redactor, cancel, .. } = self;
        let (Some(to), Some(from)) = (session.as_mut(), former.as_mut().and_then(|former| former.session.as_mut()))
        else {
            return Err(StageError::new(
                ErrorCode::ServerConnectionLost,
                "a connection broke before data could be copied",
            ));
        };
        let limits = StreamLimits { bytes: most, cancel, redactor };
        let ended = stream((from, &pack), (to, &unpack), &limits).await?;
        self.judge_copy(volume, &ended)?;
        Ok(ended.bytes)
    }

    fn judge_copy(&self, volume: &VolumeName, ended: &EndedStream) -> Result<(), StageError> {
        let Some(defect) = ended.defect() else { return Ok(()) };
        if self.cancel.is_cancelled() {
            return Err(StageError::new(ErrorCode::DeadlineExceeded, "the copying of data was cancelled"));
        }
        let code = ended.explained_code().unwrap_or(ErrorCode::CopyFailed);
        let tail = [ended.from.output.tail(), ended.to.output.tail()].concat();
        Err(StageError::new(code, format!("volume {} couldn't be copied: {defect}", volume.as_str())).with_tail(tail))
    }

    fn pack_script(&self, volume: &VolumeName) -> Script {
        let script = Script::new("pack volume", scripts::VOLUME_PACK)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("volume", volume);
        self.former.as_ref().map_or(script.clone(), |former| former.own_script(&script))
    }

    fn unpack_script(&self, volume: &VolumeName) -> Script {
        let script = Script::new("unpack volume", scripts::VOLUME_UNPACK)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("volume", volume)
            .number("streams", 1);
        self.own_script(&script)
    }
}
