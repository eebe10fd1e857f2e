//! What all sections of the bench share: how long and how often they measure, whom beside, and where figures go.

use std::path::PathBuf;

use crate::contender::BenchedEngine;
use crate::record::{Record, Subject};

/// What all sections share.
pub struct Bench {
    /// Where figures go.
    pub record: Record,
    /// How often each is measured.
    pub repetitions: u32,
    /// About how long one run is to take.
    pub seconds: f64,
    /// How long idle workers are watched.
    pub idle_seconds: f64,
    /// How many requests a burst has.
    pub burst: usize,
    /// How many finished deployments there are at most.
    pub history: u64,
    /// Whether to leave out what takes long and tells little more.
    pub quick: bool,
    /// The Python that has the peers and Ansible.
    pub python: PathBuf,
    /// Only these peers.
    pub chosen: Option<Vec<String>>,
}

/// The peers, each with a program of its name in `tests/python/peers`.
const PEERS: [&str; 5] = ["taskiq", "faststream", "celery", "dramatiq", "procrastinate"];
/// Those that are measured with a deployment's seven stages, too.
const QUICKEST: [&str; 2] = ["faststream", "dramatiq"];
/// Those that are measured with a deployment's guarantees, too.
const FENCED: [&str; 2] = ["faststream", "taskiq"];

impl Bench {
    /// A figure's place, in the first repetition.
    pub fn subject(&self, section: &'static str, case: String, contender: &BenchedEngine) -> Subject {
        Subject { section, case, who: contender.name.clone(), repetition: 1 }
    }

    /// The peers to measure beside.
    pub fn peers(&self) -> Vec<BenchedEngine> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python/peers"));
        let names = PEERS
            .iter()
            .filter(|name| self.chosen.as_ref().is_none_or(|chosen| chosen.iter().any(|one| one == **name)));
        let of = |name: &&str| BenchedEngine {
            name: (*name).to_owned(),
            concurrency: 16,
            peer: Some((self.python.clone(), folder.join(format!("{name}_peer.py")))),
            stage_ms: 0,
            is_whole: false,
            is_fenced: false,
            is_limited: false,
        };
        let mut peers: Vec<_> = names.map(of).collect();
        let also = |names: [&str; 2], change: fn(BenchedEngine) -> BenchedEngine| {
            let chosen = peers.iter().filter(|peer| names.contains(&peer.name.as_str()));
            chosen.cloned().map(change).collect::<Vec<_>>()
        };
        let whole = also(QUICKEST, |peer| BenchedEngine { is_whole: true, ..peer });
        let fenced = also(FENCED, |peer| BenchedEngine { is_fenced: true, ..peer });
        let equal = also(FENCED, |peer| BenchedEngine { is_whole: true, is_fenced: true, ..peer });
        peers.extend(whole.into_iter().chain(fenced).chain(equal));
        peers
    }
}
