//! What attempts have for a front door from now on.

use std::time::Duration;

use slipway_deploy::{Acme, Deployer, DoorImage, FrontDoor, PlainWord};
use slipway_tests::world::Authority;

use super::scene::AttemptScene;

impl AttemptScene {
    /// From now on servers have a front door.
    pub fn with_front_door(&mut self) {
        self.with_door(10, 12);
    }

    /// From now on servers have a front door, with these seconds to drain what is replaced and to prove what is new.
    pub fn with_door(&mut self, drain: u64, proving: u64) {
        self.config.front_door = Some(FrontDoor {
            by_default: true,
            image: DoorImage::new(self.world.front_door_image()).unwrap(),
            drain_limit: Duration::from_secs(drain),
            proving_time: Duration::from_secs(proving),
            acme: Acme::default(),
        });
        self.deployer = Deployer::new(self.config.clone()).unwrap();
    }

    /// From now on the front door gets its certificates from this authority, which workers trust.
    pub fn with_authority(&mut self, authority: &Authority) {
        self.with_front_door();
        if let Some(door) = &mut self.config.front_door {
            door.proving_time = Duration::from_secs(3);
            door.drain_limit = Duration::from_secs(2);
            door.acme = Acme {
                directory: PlainWord::new(&authority.directory()),
                ca_certificates: Some(std::fs::read_to_string(authority.root()).unwrap()),
                ..Acme::default()
            };
        }
        self.config.ca_file = Some(authority.root().to_owned());
        self.deployer = Deployer::new(self.config.clone()).unwrap();
    }

    /// From now on servers have none.
    pub fn without_door(&mut self) {
        self.config.front_door = None;
        self.deployer = Deployer::new(self.config.clone()).unwrap();
    }

    /// As [`Self::with_door`], from the same image by another name: a door that runs is upgraded.
    pub fn with_another_door(&mut self, tag: &str, drain: u64, proving: u64) {
        let (_, digest) = self.world.front_door_image().split_once('@').unwrap();
        self.with_door_of(&format!(":{tag}@{digest}"), drain, proving);
    }

    /// As [`Self::with_door`], from an image that no registry has.
    pub fn with_absent_door(&mut self, drain: u64, proving: u64) {
        self.with_door_of(&format!("@sha256:{}", "ab".repeat(32)), drain, proving);
    }

    fn with_door_of(&mut self, version: &str, drain: u64, proving: u64) {
        self.with_door(drain, proving);
        let (image, _) = self.world.front_door_image().split_once('@').unwrap();
        let name = image.rsplit_once(':').map_or(image, |(name, _)| name);
        self.config.front_door.as_mut().unwrap().image = DoorImage::new(&format!("{name}{version}")).unwrap();
        self.deployer = Deployer::new(self.config.clone()).unwrap();
    }
}
