//! Servers as a folder: a directory for each project, under the rule that real servers keep (one at a time by lock,
//! older fences refused), and a log of every effect in the order in which it happened. What a worker does here is
//! told by its script; what a checker makes of the log stands in [`crate::checker`].

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use slipway_protocol::{DeploymentId, Stage};

/// How long a stage waits for the one that holds its project.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What happened to a project. The log's order is the order of events: each line is one append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What happened.
    pub what: EffectKind,
    /// The process.
    pub pid: u32,
    /// The project, as `server/slug`; empty for a death, and so are the following three.
    #[serde(default)]
    pub project: String,
    /// For which deployment.
    #[serde(default)]
    pub deployment: Option<DeploymentId>,
    /// In which stage.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Under which fence.
    #[serde(default)]
    pub fence: i64,
}

/// What can happen to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// A stage begins to act.
    Begun,
    /// It has done its work.
    Done,
    /// It has failed, and acts no more.
    Failed,
    /// It was cancelled, and acts no more.
    Cut,
    /// The server knew a newer fence and let nothing happen.
    Refused,
    /// The process is gone, and all that it did ends; told by whoever has buried it.
    Died,
}

/// The servers.
#[derive(Debug, Clone)]
pub struct Model {
    root: PathBuf,
}

/// A stage's place on a server.
#[derive(Debug, Clone)]
pub struct StagePlace {
    /// The server's handle.
    pub server: String,
    /// The project's slug.
    pub slug: String,
    /// For which deployment.
    pub deployment: DeploymentId,
    /// The stage.
    pub stage: Stage,
    /// The number of the claim.
    pub fence: i64,
}

/// The right to act on a project, as long as this lives.
#[derive(Debug)]
pub struct HeldProject {
    model: Model,
    place: StagePlace,
    folder: PathBuf,
    _lock: File,
}

/// Why a project may not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum Barred {
    /// A newer claim was here.
    #[error("fence {ours} is too old: {newest} was here")]
    Fence {
        /// The fence that was shown.
        ours: i64,
        /// The newest that the server has seen.
        newest: i64,
    },
    /// Another process held the lock for too long.
    #[error("another process holds the project's lock")]
    Busy,
    /// The model itself failed.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}

impl Model {
    /// The servers in the folder `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Enters a project as a real server lets a command in: alone, and not behind a newer one.
    ///
    /// # Errors
    /// [`Barred`].
    pub async fn enter(&self, place: StagePlace) -> Result<HeldProject, Barred> {
        let folder = self.root.join(&place.server).join(&place.slug);
        fs::create_dir_all(&folder).context("making the project's directory")?;
        let lock = File::options().create(true).append(true).open(folder.join(".lock")).context("opening the lock")?;
        let begun = Instant::now();
        while let Err(error) = lock.try_lock() {
            if !matches!(error, fs::TryLockError::WouldBlock) || begun.elapsed() > PATIENCE {
                return Err(Barred::Busy);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let newest = fs::read_to_string(folder.join(".fence")).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let ours = place.fence;
        let held = HeldProject { model: self.clone(), place, folder, _lock: lock };
        if newest > ours {
            held.note(EffectKind::Refused)?;
            return Err(Barred::Fence { ours, newest });
        }
        replace(&held.folder.join(".fence"), &ours.to_string())?;
        held.note(EffectKind::Begun)?;
        Ok(held)
    }

    /// Every effect so far, in order.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn effects(&self) -> Result<Vec<Effect>> {
        let Ok(text) = fs::read_to_string(self.log()) else { return Ok(Vec::new()) };
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The commit that a project serves.
    #[must_use]
    pub fn serves(&self, server: &str, slug: &str) -> Option<String> {
        fs::read_to_string(self.root.join(server).join(slug).join(Stage::Compose.as_str())).ok()
    }

    /// Notes that a process is gone. To be called once it's buried, and before anybody takes its place.
    ///
    /// # Errors
    /// When the log can't be written.
    pub fn died(&self, pid: u32) -> Result<()> {
        let died =
            Effect { what: EffectKind::Died, pid, project: String::new(), deployment: None, stage: None, fence: 0 };
        self.append(&died)
    }

    /// Opens a gate that a script holds stages at, for good.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn open(&self, gate: &str) -> Result<()> {
        fs::create_dir_all(&self.root)?;
        Ok(fs::write(self.gate(gate), "")?)
    }

    /// Waits until a gate is open.
    pub async fn pass(&self, gate: &str) {
        while !self.gate(gate).exists() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn gate(&self, gate: &str) -> PathBuf {
        self.root.join(format!("gate-{gate}"))
    }

    fn log(&self) -> PathBuf {
        self.root.join("effects.jsonl")
    }

    fn append(&self, effect: &Effect) -> Result<()> {
        let mut line = serde_json::to_vec(effect)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().append(true).create(true).open(self.log())?;
        Ok(file.write_all(&line)?)
    }
}

impl HeldProject {
    /// Does the stage's work for `commit`; gives whether there was something to do.
    ///
    /// # Errors
    /// When the project's directory can't be written.
    pub fn converge(&self, commit: &str) -> Result<bool> {
        let path = self.folder.join(self.place.stage.as_str());
        if fs::read_to_string(&path).is_ok_and(|served| served == commit) {
            return Ok(false);
        }
        replace(&path, commit)?;
        Ok(true)
    }

    /// Notes how it ended, before the lock is let go.
    ///
    /// # Errors
    /// When the log can't be written.
    pub fn end(self, what: EffectKind) -> Result<()> {
        self.note(what)
    }

    fn note(&self, what: EffectKind) -> Result<()> {
        let StagePlace { server, slug, deployment, stage, fence } = &self.place;
        self.model.append(&Effect {
            what,
            pid: std::process::id(),
            project: format!("{server}/{slug}"),
            deployment: Some(*deployment),
            stage: Some(*stage),
            fence: *fence,
        })
    }
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, path)?)
}
