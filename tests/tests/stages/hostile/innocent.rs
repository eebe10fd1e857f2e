//! A project that does no harm, on a server where others are to be tried. Nothing of it may change, and nothing that it
//! keeps to itself may be seen by others.

use std::collections::BTreeMap;

use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, BOT_TOKEN};

/// Its files with their owners, modes and contents; its volumes, of which a database changes what lies deeper by itself;
/// its containers with when they were started; its key and its place in the firewall. Others may come and go.
const STATE: &str = "cd /opt/services/shop
    find . ! -path './.slipway/lock' -printf '%p %u %m %l\\n' | sort
    find . -type f ! -path './.slipway/lock' | sort | xargs -d '\\n' sha256sum
    for volume in $(docker volume ls -q --filter label=com.docker.compose.project=shop | sort); do
        cd \"$(docker volume inspect --format '{{.Mountpoint}}' $volume)\" && find . -maxdepth 1 -printf '%p %u %m\\n' | sort
    done
    all=$(docker ps -aq --no-trunc --filter label=com.docker.compose.project=shop | sort)
    docker inspect --format '{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}} {{.Image}} {{.Config.Env}}' $all
    docker network ls -q --no-trunc --filter label=com.docker.compose.project=shop | sort
    grep slipway:shop /root/.ssh/authorized_keys; ufw show added | grep slipway:shop || :";

/// An innocent project that was deployed, and how it looked then.
pub struct Innocent<'a> {
    scene: &'a AttemptScene,
    before: String,
    secrets: BTreeMap<String, String>,
}

impl<'a> Innocent<'a> {
    /// Deploys it to the scene's first server.
    pub fn deploy(scene: &'a AttemptScene) -> Self {
        let sample = Sample::new(Generation::One, "acme", "shop");
        let commit = scene.publish(&sample, Variant::Healthy);
        scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
        scene.world.target(0).sh("echo 'a line that is nobodys else' >/opt/services/shop/notes").unwrap();
        let mut innocent = Self { scene, before: String::new(), secrets: scene.github.secrets("acme/shop") };
        innocent.before = innocent.state();
        assert!(innocent.before.contains("/run/") || innocent.before.contains("running"), "{}", innocent.before);
        innocent
    }

    fn state(&self) -> String {
        self.scene.world.target(0).sh(STATE).unwrap()
    }

    /// It's as it was: on the server, at GitHub, and to its users.
    pub fn assert_unharmed(&self, by: &str) {
        let now = self.state();
        let differs = self.before.lines().zip(now.lines()).find(|(before, now)| before != now);
        assert!(self.before == now, "{by} has changed the innocent project: {differs:?}");
        assert_eq!(self.scene.github.secrets("acme/shop"), self.secrets, "{by}");
        let answer = self.scene.get("/health");
        assert!(answer.contains("ok"), "{by}: the innocent project answers {answer:?}");
    }

    /// What nobody else may see: its variables that name secrets, its bot's token, its deploy key.
    pub fn secrets(&self) -> Vec<String> {
        let env = self.scene.world.target(0).sh("cat /opt/services/shop/.env").unwrap();
        let lines = env.lines().filter_map(|line| line.split_once('='));
        let named = lines.filter(|(name, _)| ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| name.contains(word)));
        let values = named.map(|(_, value)| value.trim_matches('"').to_owned()).filter(|value| value.len() >= 12);
        let key = self.secrets["DEPLOY_SSH_KEY"].lines().nth(1).unwrap().to_owned();
        let all: Vec<String> = values.chain([BOT_TOKEN.to_owned(), key]).collect();
        assert!(all.len() > 3, "{} secrets were found", all.len());
        all
    }
}
