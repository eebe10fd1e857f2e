//! What was done on the servers: one at a time, no older claim after a newer one, and every success really carried out.

use std::collections::{HashMap, HashSet};

use super::{DeploymentRow, Violation};
use crate::model::{Effect, EffectKind};

/// Who acts on a project, and the newest fence that was seen there.
#[derive(Default)]
struct Project<'e> {
    acting: Option<&'e Effect>,
    newest: i64,
}

/// Goes through the log; gives how many stages were refused.
pub(super) fn check(log: &[Effect], deployments: &[DeploymentRow], found: &mut Vec<Violation>) -> usize {
    let mut projects: HashMap<&str, Project<'_>> = HashMap::new();
    let mut done = HashSet::new();
    let mut refused = 0;
    for effect in log {
        if effect.what == EffectKind::Died {
            let theirs = projects.values_mut().filter(|p| p.acting.is_some_and(|acting| acting.pid == effect.pid));
            theirs.for_each(|project| project.acting = None);
            continue;
        }
        let project = projects.entry(&effect.project).or_default();
        match effect.what {
            EffectKind::Begun => {
                if let Some(acting) = project.acting {
                    found.push(Violation::Concurrent(acting.clone(), effect.clone()));
                }
                if effect.fence < project.newest {
                    found.push(Violation::OldFence { effect: effect.clone(), newest: project.newest });
                }
                project.newest = project.newest.max(effect.fence);
                project.acting = Some(effect);
            }
            EffectKind::Done | EffectKind::Failed | EffectKind::Cut => {
                if effect.fence < project.newest {
                    found.push(Violation::OldFence { effect: effect.clone(), newest: project.newest });
                }
                if effect.what == EffectKind::Done {
                    done.insert((effect.deployment.map(|id| id.0), effect.stage));
                }
                if project.acting.is_some_and(|a| (a.pid, a.fence, a.stage) == (effect.pid, effect.fence, effect.stage))
                {
                    project.acting = None;
                }
            }
            EffectKind::Refused => refused += 1,
            EffectKind::Died => {}
        }
    }
    for (name, project) in projects {
        found.extend(project.acting.map(|effect| Violation::Left(format!("{name} is still acted on: {effect:?}"))));
    }
    let served = deployments.iter().filter(|row| matches!(row.state.as_str(), "succeeded" | "already_deployed"));
    for row in served {
        let missing = row.action.stages().iter().find(|stage| !done.contains(&(Some(row.id), Some(**stage))));
        found.extend(missing.map(|stage| Violation::Unfounded(row.id, *stage)));
    }
    refused
}
