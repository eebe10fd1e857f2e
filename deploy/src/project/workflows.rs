//! What the secret `DEPLOY_PORT` means to a project's own workflows: the port of SSH where an SSH step logs in on it, else
//! the app's. The two generations of the template differ in that. No I/O: the workflows' texts come from `stages`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The programs that log in over SSH, as an action's name or a script's command has them.
const CLIENTS: [&str; 4] = ["ssh", "scp", "sftp", "rsync"];
/// The secret.
const SECRET: &str = "DEPLOY_PORT";
/// Stands for it in a script; no workflow can hold it.
const MARK: char = '\u{0}';

/// For what the workflows of a commit use `DEPLOY_PORT`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeployPortUse {
    /// An SSH step logs in on that port.
    pub ssh: bool,
    /// It's used for something else, which can only be the app's port.
    pub app: bool,
    /// The workflows know the secret `DEPLOY_SSH_PORT`, which is the port of SSH alone.
    pub knows_ssh_port: bool,
    /// Workflows that can't be read as YAML.
    pub unreadable: Vec<String>,
}

impl DeployPortUse {
    /// What to tell people about it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .unreadable
            .iter()
            .map(|path| format!("warning: {path} isn't YAML: whether it takes DEPLOY_PORT for SSH's port isn't known"))
            .collect();
        if self.ssh && self.app {
            warnings.push(
                "warning: the workflows log in on the port in the secret DEPLOY_PORT, and use it for something else as \
                 well: it is SSH's port; give the app's port to them under another name"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Reads the workflows of one commit, each with its path.
pub(crate) fn read_deploy_port<'a>(workflows: impl IntoIterator<Item = (&'a str, &'a str)>) -> DeployPortUse {
    let mut found = DeployPortUse::default();
    for (path, text) in workflows {
        found.knows_ssh_port |= expressions(text).any(|expression| names_secret(expression, "DEPLOY_SSH_PORT"));
        match read_yaml(text) {
            Some(workflow) => read_workflow(&workflow, &mut found),
            None => found.unreadable.push(path.to_owned()),
        }
    }
    found
}

/// With a budget: aliases in a file of a stranger's may multiply.
fn read_yaml(text: &str) -> Option<Value> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000,
            max_nodes: 50_000,
            max_depth: 64,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 500,
        },
    };
    serde_saphyr::from_str_with_options(text, options).ok()
}

fn read_workflow(workflow: &Value, found: &mut DeployPortUse) {
    let mut passed = Passed::default();
    let mut uses = Vec::new();
    passed.add(workflow.get("env"));
    for job in workflow.get("jobs").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        passed.add(job.get("env"));
        for step in job.get("steps").and_then(Value::as_array).into_iter().flatten() {
            passed.add(step.get("env"));
            uses.push(step);
        }
    }
    let mut by_ssh = BTreeSet::new();
    for step in uses {
        let action = step.get("uses").and_then(Value::as_str).and_then(|uses| uses.split('@').next());
        let is_client =
            action.is_some_and(|name| CLIENTS.iter().any(|client| name.to_ascii_lowercase().contains(client)));
        let inputs = step.get("with").and_then(Value::as_object).into_iter().flatten();
        let run = step.get("run").map(|text| ("run", text));
        for (name, text) in inputs.map(|(name, text)| (name.as_str(), text)).chain(run) {
            let Some(text) = text.as_str() else { continue };
            let (marked, names) = passed.mark(text);
            if !marked.contains(MARK) {
                continue;
            }
            if (name == "port" && is_client) || (name == "run" && logs_in_on_it(&marked)) {
                found.ssh = true;
                by_ssh.extend(names);
            } else if mentions(text) {
                found.app = true;
            } else {
                passed.elsewhere.extend(names);
            }
        }
    }
    found.app |= passed.names.difference(&by_ssh).next().is_some() || !passed.elsewhere.is_empty();
}

/// Variables that hold the secret.
#[derive(Default)]
struct Passed {
    names: BTreeSet<String>,
    /// Those that are used, and not by SSH.
    elsewhere: BTreeSet<String>,
}

impl Passed {
    fn add(&mut self, env: Option<&Value>) {
        for (name, value) in env.and_then(Value::as_object).into_iter().flatten() {
            if value.as_str().is_some_and(mentions) {
                self.names.insert(name.clone());
            }
        }
    }

    /// The text with a mark for each place that stands for the secret, and the variables by which it gets there.
    fn mark(&self, text: &str) -> (String, Vec<String>) {
        let mut marked = String::new();
        let mut names = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{") {
            let (expression, after) = after.split_once("}}").unwrap_or((after, ""));
            marked.push_str(before);
            let by = self.names.iter().find(|name| has_word(expression, &format!("env.{name}")));
            names.extend(by.cloned());
            marked.push(if by.is_some() || names_secret(expression, SECRET) { MARK } else { '-' });
            rest = after;
        }
        marked.push_str(rest);
        for name in &self.names {
            let braced = format!("${{{name}}}");
            let plain = format!("${name}");
            let found = marked.contains(&braced) || has_word(&marked, &plain);
            if found {
                names.push(name.clone());
                marked = marked.replace(&braced, &MARK.to_string()).replace(&plain, &MARK.to_string());
            }
        }
        (marked, names)
    }
}

/// Whether a script runs an SSH client, and gives the marked port as an option of it rather than of anything else.
fn logs_in_on_it(marked: &str) -> bool {
    let words = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_' && c != '.';
    let runs_client = marked.split(words).any(|word| CLIENTS.contains(&word));
    runs_client
        && marked.match_indices(MARK).any(|(at, mark)| {
            let before = marked[..at].trim_end_matches(['"', '\'']);
            let after = marked[at + mark.len()..].trim_start_matches(['"', '\'']);
            let spaceless = before.trim_end();
            let option = ["-p", "-P"].iter().any(|option| {
                let left = spaceless.strip_suffix(option);
                left.is_some_and(|left| left.is_empty() || left.ends_with([' ', '\n', '"', '\'']))
            });
            (option && !after.starts_with(':')) || before.to_ascii_lowercase().ends_with("port=")
        })
}

/// Whether a text has an expression that names the secret.
fn mentions(text: &str) -> bool {
    expressions(text).any(|expression| names_secret(expression, SECRET))
}

fn expressions(text: &str) -> impl Iterator<Item = &str> {
    text.split("${{").skip(1).filter_map(|rest| rest.split("}}").next())
}

/// Names in expressions know no upper and lower case.
fn names_secret(expression: &str, secret: &str) -> bool {
    let spaceless: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
    let upper = spaceless.to_ascii_uppercase();
    has_word(&upper, &format!("SECRETS.{secret}")) || upper.contains(&format!("SECRETS['{secret}']"))
}

fn has_word(text: &str, word: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    text.match_indices(word).any(|(at, _)| ends(&text[at + word.len()..]))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use std::fs;
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> DeployPortUse {
        read_deploy_port([("deploy.yml", text)])
    }

    #[test]
    fn fuzzed_workflows_are_read_in_a_moment() {
        let sample = include_bytes!("../../../tests/samples/generation-2/.github/workflows/deploy.yml");
        slipway_protocol::fuzz::run("workflows", &[sample], |input| drop(read(&String::from_utf8_lossy(input))));
        // Each line stands for nine of the one before.
        let line = |name: u8| format!("a{name}: &a{name} [{}x]\n", format!("*a{}, ", name - 1).repeat(9));
        let bomb: String = (1..16).map(line).collect();
        assert_eq!(read(&format!("a0: &a0 [x, x]\n{bomb}")).unreadable, ["deploy.yml"]);
    }

    fn of(steps: &str) -> DeployPortUse {
        read(&format!("on: push\njobs:\n  deploy:\n    steps:\n{steps}"))
    }

    fn sample(generation: u8) -> DeployPortUse {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../tests/samples/generation-{generation}/.github/workflows"));
        let files = fs::read_dir(folder).expect("the workflows").map(|entry| entry.expect("an entry").path());
        let texts: Vec<_> = files.map(|path| fs::read_to_string(path).expect("a workflow")).collect();
        read_deploy_port(texts.iter().map(|text| ("sample", text.as_str())))
    }

    fn uses(ssh: bool, app: bool) -> DeployPortUse {
        DeployPortUse { ssh, app, ..DeployPortUse::default() }
    }

    #[test]
    fn each_generation_means_its_own_port() {
        assert_eq!(sample(1), uses(true, false));
        assert_eq!(sample(2), uses(false, true));
    }

    #[test]
    fn the_port_of_an_ssh_step_is_sshs_however_it_gets_there() {
        let ways = [
            "      - uses: appleboy/ssh-action@v1.0.0\n        with: {port: \"${{ secrets.DEPLOY_PORT || '22' }}\"}\n",
            "      - uses: appleboy/ssh-action@v1.0.0\n        with:\n          port: ${{ inputs.port || secrets.DEPLOY_PORT || '22' }}\n",
            "      - uses: some/rsync-deploy@v2\n        with: {port: \"${{ Secrets['DEPLOY_PORT'] }}\"}\n",
            "      - uses: appleboy/scp-action@v1\n        env: {P: \"${{secrets.DEPLOY_PORT}}\"}\n        with: {port: \"${{ env.P }}\"}\n",
            "      - run: ssh -p ${{ secrets.DEPLOY_PORT }} root@host true\n",
            "      - run: |\n          scp -i key -P \"$P\" a host:b\n        env: {P: \"${{ secrets.DEPLOY_PORT }}\"}\n",
            "      - run: rsync -e 'ssh -o Port=${{ secrets.DEPLOY_PORT }}' a host:b\n",
        ];
        for way in ways {
            assert_eq!(of(way), uses(true, false), "{way}");
        }
    }

    #[test]
    fn any_other_use_is_the_apps() {
        let ways = [
            "      - uses: appleboy/ssh-action@v1.0.0\n        with: {script: \"ufw allow ${{ secrets.DEPLOY_PORT }}/tcp\"}\n",
            "      - uses: some/health-check@v1\n        with: {port: \"${{ secrets.DEPLOY_PORT }}\"}\n",
            "      - run: curl http://host:${{ secrets.DEPLOY_PORT }}/health\n",
            "      - run: ssh host docker run -p ${{ secrets.DEPLOY_PORT }}:8000 image\n",
            "      - run: ./check\n        env: {PORT: \"${{ secrets.DEPLOY_PORT }}\"}\n",
        ];
        for way in ways {
            assert_eq!(of(way), uses(false, true), "{way}");
        }
    }

    #[test]
    fn both_meanings_at_once_are_sshs_and_a_warning() {
        let both = of(concat!(
            "      - uses: appleboy/ssh-action@v1\n        with: {port: \"${{ secrets.DEPLOY_PORT }}\"}\n",
            "      - run: curl http://host:${{ secrets.DEPLOY_PORT }}/health\n",
        ));
        assert_eq!(both, uses(true, true));
        assert!(both.warnings().concat().contains("it is SSH's port"), "{:?}", both.warnings());
        assert!(uses(true, false).warnings().is_empty() && uses(false, true).warnings().is_empty());
    }

    #[test]
    fn a_workflow_that_knows_the_port_of_ssh_by_its_own_name_is_told_apart() {
        let by_name = of("      - run: ssh -o Port=${{ secrets.deploy_ssh_port }} host true\n");
        assert_eq!(by_name, DeployPortUse { knows_ssh_port: true, ..DeployPortUse::default() });
        assert!(!sample(1).knows_ssh_port && !sample(2).knows_ssh_port);
        assert!(!of("      - run: echo DEPLOY_SSH_PORT # secrets.DEPLOY_SSH_PORT\n").knows_ssh_port);
    }

    #[test]
    fn nothing_and_broken_yaml_leave_the_apps_port() {
        assert_eq!(read_deploy_port([]), uses(false, false));
        assert_eq!(read(""), uses(false, false));
        assert_eq!(read("on: push\njobs: {deploy: {steps: [{run: ':'}, 7]}}"), uses(false, false));
        assert_eq!(of("      - run: echo ${{ secrets.DEPLOY_PORTAL }} secrets.DEPLOY_PORT\n"), uses(false, false));
        let broken = read("jobs: [\n  deploy: {");
        assert_eq!(broken.unreadable, ["deploy.yml"]);
        assert!(!broken.ssh && broken.warnings().concat().contains("deploy.yml isn't YAML"), "{broken:?}");
    }
}
