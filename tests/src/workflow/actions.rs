//! Stand-ins for the actions that the projects' workflows use. Instead of building an image from a Dockerfile they push the
//! module's image of these tests, which tells its commit and behaves as the Dockerfile says.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::machine::{Machine, SshRequest, StepEnd};
use crate::world::{Commit, Image, Module, Sample, Variant};

/// What a step gives its action.
pub(super) type Inputs = BTreeMap<String, String>;

/// What is pushed, and where the job that acts on it runs.
pub(super) struct Place<'a> {
    pub machine: &'a Machine<'a>,
    pub sample: &'a Sample,
    pub commit: &'a Commit,
}

impl Place<'_> {
    /// Plays one action.
    pub fn act(&self, uses: &str, inputs: &Inputs, env: &Inputs) -> Result<StepEnd> {
        let input = |name: &str| inputs.get(name).map_or("", String::as_str);
        match uses.split('@').next().unwrap_or_default() {
            "actions/checkout" => {
                self.sample.write(&self.machine.workspace())?;
                Ok(StepEnd::default())
            }
            "actions/setup-python" | "astral-sh/setup-uv" | "docker/setup-buildx-action" => Ok(StepEnd::default()),
            "docker/login-action" => self.machine.log_in(input("registry"), input("username"), input("password")),
            "docker/metadata-action" => self.metadata(input("images"), input("tags")),
            "docker/build-push-action" => self.push(inputs),
            "appleboy/ssh-action" => self.machine.send(&ssh_request(inputs, env)?),
            _ => bail!("this runner doesn't know the action {uses}"),
        }
    }

    fn metadata(&self, images: &str, rules: &str) -> Result<StepEnd> {
        let mut tags = Vec::new();
        for rule in rules.lines().map(str::trim).filter(|rule| !rule.is_empty()) {
            let parts: BTreeMap<_, _> = rule.split(',').filter_map(|part| part.split_once('=')).collect();
            let tag = match (parts.get("type"), parts.get("value")) {
                (Some(&"raw"), Some(value)) => (*value).to_owned(),
                (Some(&"sha"), None) => self.commit.tag(),
                _ => bail!("the rule {rule} isn't known here"),
            };
            if parts.get("enable").is_none_or(|enable| *enable == "true") {
                tags.push(format!("{}:{tag}", images.to_lowercase()));
            }
        }
        let source = format!("https://github.com/{}/{}", self.sample.owner(), self.sample.repository());
        let labels = format!(
            "org.opencontainers.image.source={source}\norg.opencontainers.image.revision={}\n\
             org.opencontainers.image.title={}",
            self.commit.sha,
            self.sample.repository(),
        );
        let outputs = [("tags", tags.join("\n")), ("labels", labels)];
        let outputs = outputs.map(|(name, value)| (name.to_owned(), value.into())).into();
        Ok(StepEnd { outputs, ..StepEnd::default() })
    }

    fn push(&self, inputs: &Inputs) -> Result<StepEnd> {
        let input = |name: &str| inputs.get(name).map_or("", String::as_str);
        ensure!(input("push") == "true", "this runner can't build without a push");
        let (work, file) = (self.machine.workspace(), input("file"));
        if !work.join(input("context")).is_dir() {
            return Ok(StepEnd::failing(format!("ERROR: there is no context {}", input("context"))));
        }
        let Ok(dockerfile) = fs::read_to_string(work.join(file)) else {
            return Ok(StepEnd::failing(format!("ERROR: failed to read dockerfile: open {file}: no such file")));
        };
        let image = match self.build(file, &dockerfile)? {
            Ok(image) => image,
            Err(end) => return Ok(end),
        };
        let labels = input("labels").lines().filter_map(|line| line.split_once('='));
        let image = labels.fold(image, |image, (name, value)| image.label(name, value));
        let mut log = String::new();
        for tag in input("tags").lines() {
            let (registry, name) = tag.split_once('/').with_context(|| format!("{tag} names no registry"))?;
            let (repository, version) = name.rsplit_once(':').with_context(|| format!("{tag} has no tag"))?;
            if !self.machine.registries().contains(registry) {
                return Ok(StepEnd::failing(format!("ERROR: failed to push {tag}: denied")));
            }
            ensure!(registry == "ghcr.io", "the world has no registry {registry}");
            let digest = self.machine.world.push_image(repository, version, &image)?;
            log.push_str(&format!("pushed {tag} {digest}\n"));
        }
        Ok(StepEnd { log, ..StepEnd::default() })
    }

    /// The image of the module whose Dockerfile that is, or how its building failed.
    fn build(&self, file: &str, dockerfile: &str) -> Result<Result<Image, StepEnd>> {
        let of = |module: &&Module| file == format!("services/{}/Dockerfile", module.service());
        let module = *Module::ALL.iter().find(of).with_context(|| format!("{file} is no module's"))?;
        if dockerfile.lines().any(|line| line == "RUN false") {
            let words = "ERROR: process \"/bin/sh -c false\" did not complete successfully: exit code: 1";
            return Ok(Err(StepEnd::failing(words.to_owned())));
        }
        let variant = dockerfile.lines().find_map(|line| line.strip_prefix("ENV SAMPLE_VARIANT="));
        let variant = variant.map_or(Some(Variant::Healthy), Variant::named).context("no variant of that name")?;
        Ok(Ok(Image::module(module, variant, Some(&self.commit.sha))))
    }
}

/// The variables that `envs` names, exported, and the script behind them: one exec request.
pub(super) fn ssh_request(inputs: &Inputs, env: &Inputs) -> Result<SshRequest> {
    let input = |name: &str| inputs.get(name).map_or("", String::as_str);
    let mut command = String::new();
    for name in input("envs").split(',').filter(|name| !name.is_empty()) {
        let value = env.get(name).map_or("", String::as_str);
        ensure!(!value.contains('\''), "{name} would need quoting");
        command.push_str(&format!("export {name}='{value}'\n"));
    }
    command.push_str(input("script"));
    let port = if input("port").is_empty() { "22" } else { input("port") };
    let place = format!("{}@{}", input("username"), input("host"));
    Ok(SshRequest { place, port: port.to_owned(), key: input("key").to_owned(), command })
}
