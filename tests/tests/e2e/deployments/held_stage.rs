//! Holds a deployment in the midst of a stage, however short that is, for tests that do something to its worker then.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use slipway_protocol::Stage;
use slipway_tests::world::{TargetServer, eventually};

use crate::deployments::scene::ProjectScene;

/// Programs that can be made to hang: the first call whose arguments match a token does, until it's told to go on.
const HOLDS: &str = r#"
mkdir -p /run/trap
for program in git docker ufw getent; do
    path=$(command -v "$program")
    cat >"/usr/local/bin/$program" <<END
#!/bin/sh
if [ -e /run/trap/$program ]; then
    case "\$*" in
    \$(cat /run/trap/$program)) if mv /run/trap/$program /run/trap/sprung 2>/dev/null; then
        until [ -e /run/trap/go ]; do sleep 0.1; done
    fi ;;
    esac
fi
exec $path "\$@"
END
    chmod 755 "/usr/local/bin/$program"
done
"#;

/// Which call to trap for a stage. Verify runs nothing on the server: it's caught by a port that falls
/// silent, from the end of the stage before.
fn call(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Preflight => ("ufw", "status"),
        Stage::Clone => ("git", "*rev-parse*"),
        Stage::Env => ("docker", "volume*"),
        Stage::Compose => ("docker", "*up -d*"),
        Stage::Firewall | Stage::Verify => ("ufw", "show*"),
        Stage::Secrets => ("getent", "passwd*"),
    }
}

/// Prepares a server, so that any stage can be held; none is yet.
pub fn install(server: &TargetServer) -> Result<()> {
    server.sh(HOLDS).map(drop)
}

/// Sets the stage's trap, and no other.
pub fn hold(server: &TargetServer, stage: Stage) -> Result<()> {
    let (program, arguments) = call(stage);
    server.sh(&format!("rm -f /run/trap/*; printf %s {arguments:?} >/run/trap/{program}")).map(drop)
}

/// Waits until the deployment is held in the stage.
pub fn wait_until_held(scene: &mut ProjectScene, stage: Stage, deployment: &str) -> Result<()> {
    eventually("the stage is under way", Duration::from_secs(90), || {
        scene.server().sh("[ -e /run/trap/sprung ]").map(drop)
    })?;
    if stage == Stage::Verify {
        scene.server().sh("docker pause $(docker ps -q --filter name=backend); touch /run/trap/go")?;
        let begun = |e: &Value| e["data"]["kind"] == "stage_started" && e["data"]["stage"] == "verify";
        scene.listener.until(deployment, begun)?;
    }
    Ok(())
}

/// Holds nobody who comes later; whoever was caught by a program stays so.
pub fn let_others_pass(server: &TargetServer, stage: Stage) -> Result<()> {
    if stage == Stage::Verify {
        server.sh("docker unpause $(docker ps -q --filter name=backend)")?;
    }
    Ok(())
}
