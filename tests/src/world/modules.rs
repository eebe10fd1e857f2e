//! A sample's compose files for other sets of modules: the template's files on disk are those of backend and bot.

use std::fmt::Write as _;

use super::image::Module;

/// The base file.
pub(super) fn base(text: &str, modules: &[Module]) -> String {
    let mut added = String::new();
    for (module, _) in additional(modules) {
        let service = module.service();
        let _ = write!(
            added,
            "\n  {service}:\n    build:\n      context: ..\n      dockerfile: services/{service}/Dockerfile\n"
        );
    }
    with(&without_absent(text, modules), &added)
}

/// The production file. Generation 1 has two env files.
pub(super) fn prod(text: &str, modules: &[Module], two_env_files: bool, one_shot: bool) -> String {
    let files = if two_env_files { "\n      - ../.env\n      - ./.env.prod" } else { " ../.env" };
    let mut added = String::new();
    for (module, port) in additional(modules) {
        let (service, image) = (module.service(), module.service().to_uppercase());
        let _ = write!(
            added,
            "\n  {service}:\n    extends:\n      file: compose.base.yml\n      service: {service}\n    \
             image: ${{{image}_IMAGE:?Set {image}_IMAGE}}\n    env_file:{files}\n    \
             deploy:\n      restart_policy:\n        condition: on-failure\n"
        );
        if let Some(port) = port {
            let _ = write!(added, "    ports:\n      - \"{port}:{port}\"\n");
        }
    }
    let mut text = without_absent(text, modules);
    if one_shot {
        let _ = write!(
            added,
            "\n  migrations:\n    image: ${{BACKEND_IMAGE:?Set BACKEND_IMAGE}}\n    \
             command: [\"/bin/sh\", \"-c\", \"echo migrated\"]\n    env_file:{files}\n    restart: \"no\"\n"
        );
        let waits =
            "  backend:\n    depends_on:\n      migrations:\n        condition: service_completed_successfully\n";
        text = text.replacen("  backend:\n", waits, 1);
    }
    with(&text, &added)
}

/// Modules that the template's files lack, and the port that they publish.
fn additional(modules: &[Module]) -> impl Iterator<Item = (Module, Option<u16>)> {
    let all = [(Module::Frontend, Some(4321)), (Module::NotificationsWorker, None)];
    all.into_iter().filter(|(module, _)| modules.contains(module))
}

fn with(text: &str, services: &str) -> String {
    text.replacen("\nvolumes:\n", &format!("{services}\nvolumes:\n"), 1)
}

fn without_absent(text: &str, modules: &[Module]) -> String {
    let mut text = text.to_owned();
    for module in Module::ALL.iter().filter(|module| !modules.contains(module)) {
        let begin = format!("  {}:\n", module.service());
        if let Some(at) = text.find(&format!("\n{begin}")) {
            let end = text[at + 1..].find("\n\n").map_or(text.len(), |end| at + 1 + end + 2);
            text.replace_range(at + 1..end, "");
        }
    }
    text
}
