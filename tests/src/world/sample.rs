//! A sample project, as the template's users have it: the files of `tests/samples` under another name. Knows neither
//! git nor registries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::image::{Module, Variant};
use super::modules::ModuleSet;

/// Which generation of the project template; both are in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Fixed port 8000, two replicas, the bot under a profile, two env files, no compose name.
    One,
    /// `BACKEND_PORT`, one replica, no profile, one env file, a compose name, a health check.
    Two,
}

impl Generation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// The file of the workflow whose job `deploy` goes to the server.
    #[must_use]
    pub fn deploying_workflow(self) -> &'static str {
        match self {
            Self::One => "main.yml",
            Self::Two => "deploy.yml",
        }
    }

    fn folder(self) -> PathBuf {
        let name = match self {
            Self::One => "generation-1",
            Self::Two => "generation-2",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
    }
}

/// A project with its own owner and repository name, and files that may differ from the template's.
#[derive(Debug, Clone)]
pub struct Sample {
    generation: Generation,
    owner: String,
    repository: String,
    branch: String,
    modules: Vec<Module>,
    migrates_once: bool,
    variants: Vec<(Module, Variant)>,
    files: BTreeMap<String, Option<String>>,
    links: BTreeMap<String, String>,
}

impl Sample {
    /// A project as the template generates it, on branch `main`. Capitals, dots and hyphens are fine.
    #[must_use]
    pub fn new(generation: Generation, owner: &str, repository: &str) -> Self {
        Self {
            generation,
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            branch: "main".to_owned(),
            modules: vec![Module::Backend, Module::TgBot],
            migrates_once: false,
            variants: Vec::new(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// Of other modules than backend and bot.
    #[must_use]
    pub fn of(mut self, modules: &[Module]) -> Self {
        self.modules = modules.to_vec();
        self
    }

    /// With a service that must have exited with 0 before the backend starts.
    #[must_use]
    pub fn with_one_shot(mut self) -> Self {
        self.migrates_once = true;
        self
    }

    /// With a module that behaves like that, once the project's own CI has built its image.
    #[must_use]
    pub fn behaving(mut self, module: Module, variant: Variant) -> Self {
        self.variants.push((module, variant));
        self
    }

    /// With a file of other content, or an additional one.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), Some(content.to_owned()));
        self
    }

    /// With a symbolic link.
    #[must_use]
    pub fn with_link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(path.to_owned(), target.to_owned());
        self
    }

    /// Without one of the template's files.
    #[must_use]
    pub fn without_file(mut self, path: &str) -> Self {
        self.files.insert(path.to_owned(), None);
        self
    }

    /// The template's generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The owner as GitHub spells it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's name as GitHub spells it.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch that is deployed.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The modules that the project consists of.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// A module's image name without registry and tag, in lower case: `acme/shop-tg-bot`.
    #[must_use]
    pub fn image(&self, module: Module) -> String {
        format!("{}/{}-{}", self.owner, self.repository, module.suffix()).to_lowercase()
    }

    /// What the names of all its images begin with, in the registry: `acme/shop`.
    #[must_use]
    pub fn image_prefix(&self) -> String {
        format!("{}/{}", self.owner, self.repository).to_lowercase()
    }

    /// The name as the template spells it in compose files: lower case, underscores.
    #[must_use]
    pub fn snake_name(&self) -> String {
        self.repository.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
    }

    /// Writes the project's files into `folder`.
    ///
    /// # Errors
    /// When a file can't be read or written, or one to leave out isn't there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let template = self.generation.folder();
        let set = ModuleSet {
            modules: &self.modules,
            is_generation_1: self.generation == Generation::One,
            migrates_once: self.migrates_once,
        };
        for path in files(&template)? {
            let text = fs::read_to_string(template.join(&path)).with_context(|| path.display().to_string())?;
            let text = text.replace("sample_shop", &self.snake_name()).replace("sample-shop", &self.repository);
            if let Some(text) = set.file(&path.to_string_lossy(), text) {
                put(&folder.join(&path), &text)?;
            }
        }
        for (path, text) in set.additional_files() {
            put(&folder.join(path), &text)?;
        }
        for (module, variant) in &self.variants {
            let path = folder.join(format!("services/{}/Dockerfile", module.service()));
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            put(&path, &format!("{text}ENV SAMPLE_VARIANT={}\n", variant.name()))?;
        }
        for (path, content) in &self.files {
            match content {
                Some(content) => put(&folder.join(path), content)?,
                None => fs::remove_file(folder.join(path)).with_context(|| format!("the template has no {path}"))?,
            }
        }
        for (path, target) in &self.links {
            std::os::unix::fs::symlink(target, folder.join(path)).with_context(|| path.clone())?;
        }
        Ok(())
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(fs::write(path, text)?)
}

/// The files below `folder`, relative to it.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        for entry in fs::read_dir(folder.join(&relative)).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}
