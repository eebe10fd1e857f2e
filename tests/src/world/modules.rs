//! A sample's files for other sets of modules: the template's files on disk are those of backend and bot.

use std::fmt::Write as _;

use super::image::Module;

/// What a project consists of, and which of the template's generations it's made with.
pub(super) struct ModuleSet<'a> {
    pub modules: &'a [Module],
    /// Two env files, networks, ports in the base file, and no env contract.
    pub is_generation_1: bool,
    /// A service that must have exited with 0 before the backend starts.
    pub migrates_once: bool,
}

impl ModuleSet<'_> {
    fn has(&self, module: Module) -> bool {
        self.modules.contains(&module)
    }

    fn has_worker(&self) -> bool {
        self.has(Module::TgBot) || self.has(Module::NotificationsWorker)
    }

    /// The services among these that belong to the project, as a YAML list.
    fn list(&self, modules: &[Module]) -> String {
        let names: Vec<_> = modules.iter().filter(|module| self.has(**module)).map(|module| module.service()).collect();
        format!("[{}]", names.join(", "))
    }

    /// One of the template's files; `None` where these modules have no such file.
    pub fn file(&self, path: &str, text: String) -> Option<String> {
        if let Some(rest) = path.strip_prefix("services/") {
            let of = |module: &&Module| rest.starts_with(&format!("{}/", module.service()));
            if Module::ALL.iter().find(of).is_some_and(|module| !self.has(*module)) {
                return None;
            }
        }
        Some(match path {
            "infra/compose.base.yml" => self.base(text),
            "infra/compose.prod.yml" => self.prod(text),
            "infra/env.contract.yaml" => self.infra_contract(text),
            "services/backend/env.contract.yaml" => self.backend_contract(text),
            _ if path.starts_with(".github/workflows/") => self.workflow(&text),
            _ => text,
        })
    }

    /// The files of modules that the template on disk lacks.
    pub fn additional_files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for module in self.additional() {
            let (service, image) = (module.service(), image_variable(module));
            let dockerfile = format!("FROM python:3.12-slim\nCMD [\"/app/{service}\"]\n");
            files.push((format!("services/{service}/Dockerfile"), dockerfile));
            if !self.is_generation_1 {
                let everywhere = format!("environments: [local, production], consumers: [{service}], required: true");
                let mut contract = format!(
                    "version: \"1\"\nowner: {service}\nentries:\n  {image}: {{source: derived, {everywhere}}}\n"
                );
                if module == Module::Frontend {
                    let _ =
                        writeln!(contract, "  FRONTEND_PORT: {{source: allocation, {everywhere}, service: frontend}}");
                }
                files.push((format!("services/{service}/env.contract.yaml"), contract));
            }
        }
        files
    }

    fn additional(&self) -> impl Iterator<Item = Module> {
        [Module::Frontend, Module::NotificationsWorker].into_iter().filter(|module| self.has(*module))
    }

    fn base(&self, text: String) -> String {
        let mut text = self.without_absent(text);
        let mut added = String::new();
        for module in self.additional() {
            let service = module.service();
            let _ = write!(
                added,
                "\n  {service}:\n    image: ${{{}:-{service}:latest}}\n    build:\n      context: ..\n      \
                 dockerfile: services/{service}/Dockerfile\n",
                image_variable(module)
            );
            if self.is_generation_1 {
                added.push_str("    env_file: ../.env\n    networks: [internal]\n");
                if module == Module::Frontend {
                    added.push_str("    ports:\n      - \"4321:4321\"\n");
                }
            } else if module == Module::NotificationsWorker {
                added.push_str("    user: \"${HOST_UID:-1000}:${HOST_GID:-1000}\"\n    env_file: ../.env\n");
            }
            if module == Module::NotificationsWorker {
                added.push_str("    depends_on:\n      redis:\n        condition: service_healthy\n");
            }
        }
        let rest = ["\nnetworks:\n", "\nvolumes:\n"].iter().filter_map(|key| text.find(key)).min();
        text.insert_str(rest.unwrap_or(text.len()), &added);
        text
    }

    fn prod(&self, text: String) -> String {
        let mut text = self.without_absent(text);
        if !self.has_worker() {
            text = without_block(text, "redis");
        }
        let files = if self.is_generation_1 { "\n      - ../.env\n      - ./.env.prod" } else { " ../.env" };
        for module in self.additional() {
            let (service, image) = (module.service(), image_variable(module));
            let replicas = if module == Module::Frontend { 2 } else { 1 };
            let _ = write!(
                text,
                "\n  {service}:\n    extends:\n      file: compose.base.yml\n      service: {service}\n    \
                 image: ${{{image}:?Set {image}}}\n    env_file:{files}\n    \
                 deploy:\n      replicas: {replicas}\n      restart_policy:\n        condition: on-failure\n"
            );
        }
        if self.migrates_once {
            let _ = write!(
                text,
                "\n  migrations:\n    image: ${{BACKEND_IMAGE:?Set BACKEND_IMAGE}}\n    \
                 command: [\"/bin/sh\", \"-c\", \"echo migrated\"]\n    env_file:{files}\n    restart: \"no\"\n"
            );
            let waits =
                "  backend:\n    depends_on:\n      migrations:\n        condition: service_completed_successfully\n";
            text = text.replacen("  backend:\n", waits, 1);
        }
        text
    }

    /// Without the services of modules that aren't there, and what only these need.
    fn without_absent(&self, mut text: String) -> String {
        for module in Module::ALL.into_iter().filter(|module| !self.has(*module)) {
            text = without_block(text, module.service());
        }
        if !self.has(Module::Backend) {
            text = without_block(text, "db").replace("      backend:\n        condition: service_started\n", "");
            text = text.replace("\nvolumes:\n  db_data:\n", "");
        }
        if !(self.has_worker() || self.has(Module::Backend) && !self.is_generation_1) {
            text = without_block(text, "redis");
        }
        text
    }

    fn infra_contract(&self, text: String) -> String {
        let all = [Module::Backend, Module::TgBot, Module::NotificationsWorker];
        if !all.into_iter().any(|module| self.has(module)) {
            return text.split("  REDIS_URL:\n").next().unwrap_or_default().to_owned();
        }
        text.replace("consumers: [backend, tg_bot]", &format!("consumers: {}", self.list(&all)))
    }

    fn backend_contract(&self, text: String) -> String {
        let askers = [Module::TgBot, Module::NotificationsWorker];
        let Some((before, rest)) = text.split_once("  BACKEND_API_URL:\n") else { return text };
        let Some((entry, after)) = rest.split_once("  BACKEND_IMAGE:") else { return text };
        let entry = entry.replace("[tg_bot]", &self.list(&askers));
        let entry = if self.has_worker() { format!("  BACKEND_API_URL:\n{entry}") } else { String::new() };
        format!("{before}{entry}  BACKEND_IMAGE:{after}")
    }

    /// The matrix of the job that builds: one entry for each module.
    fn workflow(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once("        include:\n") else { return text.to_owned() };
        let Some((_, after)) = rest.split_once("    steps:\n") else { return text.to_owned() };
        let mut legs = String::new();
        for module in Module::ALL.into_iter().filter(|module| self.has(*module)) {
            let (service, suffix) = (module.service(), module.suffix());
            let context = if module == Module::Frontend { "services/frontend" } else { "." };
            let _ = write!(
                legs,
                "          - id: {suffix}\n            context: {context}\n            \
                 dockerfile: services/{service}/Dockerfile\n            image-suffix: {suffix}\n"
            );
        }
        format!("{before}        include:\n{legs}    steps:\n{after}")
    }
}

fn image_variable(module: Module) -> String {
    format!("{}_IMAGE", module.service().to_uppercase())
}

/// Without a service: its lines up to the next empty one.
fn without_block(mut text: String, service: &str) -> String {
    if let Some(at) = text.find(&format!("\n  {service}:\n")) {
        let end = text[at + 1..].find("\n\n").map_or(text.len(), |end| at + 1 + end + 2);
        text.replace_range(at + 1..end, "");
    }
    text
}
