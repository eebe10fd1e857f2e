//! The choice: every server's score and what it lacks, and the best of them.

use std::cmp::Ordering;

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{PlacementReason, ServerScore, ServerTraits};

use super::lacks::lacks_of;
use super::server::{MeasuredRoom, PlacementNeeds, PlacementServer};

/// How many servers a choice lists at most: a result is a message.
const MOST_LISTED: usize = 200;

/// What was chosen, and what all servers are in view of what was needed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementChoice {
    /// Which server; none where no one has room.
    pub server: Option<ServerHandle>,
    /// Why.
    pub reason: PlacementReason,
    /// The servers, the best first.
    pub scores: Vec<ServerScore>,
    /// How many more there were.
    pub more: u32,
}

/// Chooses a server. A project that lives somewhere stays there, whatever that server lacks; otherwise of those that lack
/// nothing the one that has most of what is preferred, then the one with the best score, then the first by name.
#[must_use]
pub fn choose(servers: &[PlacementServer], needs: &PlacementNeeds) -> PlacementChoice {
    let mut scores: Vec<ServerScore> = servers.iter().map(|server| score(server, needs)).collect();
    scores.sort_by(better_first);
    let (server, reason) = match &needs.lives_on {
        Some(home) => (Some(home.clone()), PlacementReason::LivesThere),
        None => match scores.first().filter(|best| best.lacks.is_empty()) {
            Some(best) => (Some(best.server.clone()), PlacementReason::BestScore),
            None => (None, PlacementReason::NoRoom),
        },
    };
    let more = u32::try_from(scores.len().saturating_sub(MOST_LISTED)).unwrap_or(u32::MAX);
    scores.truncate(MOST_LISTED);
    PlacementChoice { server, reason, scores, more }
}

fn score(server: &PlacementServer, needs: &PlacementNeeds) -> ServerScore {
    ServerScore {
        server: server.handle.clone(),
        score: server.measured.as_ref().map(|measured| score_of(server, measured)),
        preferred: preferred(&server.traits, &needs.wish.preferred),
        lacks: lacks_of(server, needs),
    }
}

/// Free memory × 0.7 + (limit − projects) × 0.3, each as a part of all that there may be, to four decimals.
fn score_of(server: &PlacementServer, measured: &MeasuredRoom) -> f64 {
    let part = |free: u64, all: u64| {
        let (free, all) = (u32::try_from(free).unwrap_or(u32::MAX), u32::try_from(all).unwrap_or(u32::MAX));
        if all == 0 { 0.0 } else { (f64::from(free) / f64::from(all)).min(1.0) }
    };
    let ram = part(server.free_ram_mb(measured), u64::from(measured.ram_mb));
    let projects =
        part(u64::from(server.project_limit.saturating_sub(server.projects)), u64::from(server.project_limit));
    ((ram * 0.7 + projects * 0.3) * 10_000.0).round() / 10_000.0
}

/// How much of what is preferred a server has.
fn preferred(has: &ServerTraits, wanted: &ServerTraits) -> u32 {
    let region = wanted.region.is_some() && wanted.region == has.region;
    let labels = wanted.labels.intersection(&has.labels).count();
    u32::from(region) + u32::try_from(labels).unwrap_or(u32::MAX)
}

/// Those with room first, then by what is preferred, the score, the name.
fn better_first(a: &ServerScore, b: &ServerScore) -> Ordering {
    let score = |score: &ServerScore| score.score.unwrap_or(-1.0);
    (!a.lacks.is_empty())
        .cmp(&!b.lacks.is_empty())
        .then(b.preferred.cmp(&a.preferred))
        .then(score(b).total_cmp(&score(a)))
        .then_with(|| a.server.cmp(&b.server))
}
