//! Whether the project may have what its compose files ask for: the rules are in `project::grants`, the facts come from the
//! server. Stage env judges, so that a plan does too; stage compose starts nothing but what was judged.

use std::collections::BTreeSet;

use slipway_protocol::{ErrorCode, Stage};

use crate::project::grants::images::ForeignImage;
use crate::project::grants::paths::{MountedPath, read_where_written};
use crate::project::grants::refusal::explain;
use crate::project::grants::{Grants, JudgedModel, ServerFacts, judge, judge_files};
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError};

/// What compose makes of the project's files, and the server's part of the facts.
#[derive(Debug, Default)]
pub(super) struct ServerModel {
    /// The output of `compose config`; empty where there is none.
    pub model: Vec<u8>,
    /// Of the model without what pushes by CI change.
    pub digest: String,
    /// What the server knows of others.
    pub facts: ServerFacts,
}

impl ServerModel {
    pub(super) fn parse(output: &ScriptOutput, model: Vec<u8>) -> Self {
        Self {
            model,
            digest: output.value("digest").unwrap_or_default().to_owned(),
            facts: ServerFacts {
                neighbours: output.values("neighbour").to_vec(),
                taken: output.values("taken").to_vec(),
                routes: output.values("route").to_vec(),
                writable: output.values("writable").iter().cloned().collect(),
            },
        }
    }
}

impl Attempt {
    /// Refuses what the compose files name outside of the project.
    ///
    /// # Errors
    /// `compose-not-allowed`.
    pub(super) fn judge_files(&self, files: &[Vec<u8>]) -> Result<(), StageError> {
        let slug = &self.work.request.project.slug;
        let directory = self.root().of_project(slug);
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        explain(slug.as_str(), &judge_files(directory.as_str(), &files))
    }

    /// Judges what would be started.
    ///
    /// # Errors
    /// `compose-not-allowed`, and `compose-invalid` where compose couldn't resolve the files.
    pub(super) async fn judge_model(&mut self, stage: Stage, seen: &ServerModel) -> Result<JudgedModel, StageError> {
        let request = self.work.request.clone();
        let directory = self.root().of_project(&request.project.slug);
        let allowances = self.work.allowances.clone();
        let own_images = self.own_images();
        let env = self.known_env(stage).await?;
        let variables = env.into_keys().collect();
        let verdict = judge(
            &seen.model,
            &Grants {
                request: &request,
                directory: directory.as_str(),
                own_images: own_images.as_str(),
                registry: self.image_registry().as_str(),
                variables: &variables,
                allowances: &allowances,
                server: &seen.facts,
            },
        )?;
        explain(request.project.slug.as_str(), &verdict.refusals)?;
        if !verdict.images.is_empty() {
            // Whether they may be read is asked each time.
            self.left.images = None;
        }
        self.look_at_images(&verdict.images).await?;
        let of_release = verdict.paths.iter().filter(|mounted| mounted.writable).map(|mounted| &mounted.path);
        let writable: BTreeSet<_> = of_release.chain(&seen.facts.writable).collect();
        if !(verdict.paths.is_empty() && writable.is_empty()) {
            self.look_at_paths(stage, &verdict.paths, &writable, &seen.digest).await?;
        }
        let paths = verdict.paths.into_iter().map(|mounted| mounted.path).collect();
        Ok(JudgedModel { digest: seen.digest.clone(), paths })
    }

    /// Refuses those that the registry gives neither to everybody nor to the credential that came with the request.
    async fn look_at_images(&self, images: &[ForeignImage]) -> Result<(), StageError> {
        let brought = self.work.registry.clone().filter(crate::RegistryCredential::is_the_projects);
        let registry = self.registry().with_credential(brought);
        let mut refusals = Vec::new();
        for image in images {
            let reference = &image.reference;
            if !(reference.is_plain() && registry.can_read(&reference.repository, &reference.manifest).await?) {
                refusals.push(image.refused());
            }
        }
        explain(self.work.request.project.slug.as_str(), &refusals)
    }

    /// A link in the repository, or one that a container has made, may lead anywhere. And what compose reads where a
    /// container may write could be something else at each start.
    async fn look_at_paths(
        &mut self,
        stage: Stage,
        mounted: &[MountedPath],
        writable: &BTreeSet<&String>,
        digest: &str,
    ) -> Result<(), StageError> {
        let lines: String = mounted.iter().map(|mounted| format!("{}\n", mounted.path)).collect();
        let written: String = writable.iter().map(|path| format!("{path}\n")).collect();
        let script = Script::new("look at paths", scripts::LOOK_AT_PATHS)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("paths", lines.as_bytes())
            .bytes("writable", written.as_bytes())
            .hex("judged", digest);
        let message = "the paths that the project mounts couldn't be looked up";
        let output = self.exec_or(stage, &script, ErrorCode::InternalError, message).await?;
        let refusals = ["linked", "special"].into_iter().flat_map(|what| {
            let told = output.values(what).iter();
            told.flat_map(move |path| mounted.iter().filter(move |m| m.path == *path).map(move |m| m.refused(what)))
        });
        let mut refusals: Vec<_> = refusals.collect();
        if output.value("read").is_some() {
            refusals.push(read_where_written(writable.iter().map(|path| path.as_str())));
        }
        explain(self.work.request.project.slug.as_str(), &refusals)
    }
}
