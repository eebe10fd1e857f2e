//! What a repository can try, one row a trick: names, links, sizes, filters, hooks, and what a container of the project
//! may have written into its directory. The innocent project's files, and the server's own, are compared before and after each.
//! What a compose file may ask for isn't tried here.

use std::collections::BTreeMap;

use slipway_deploy::{Deployer, ProjectLimits, StageError};
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Sample, TargetServer, Variant};
use tokio_util::sync::CancellationToken;

use super::git_objects::{FILE, FOLDER, LINK, Objects};
use super::innocent::Innocent;
use crate::pipeline::scene::AttemptScene;

const SLUG: &str = "stranger";
/// Files, and what the server keeps for itself.
const INNOCENT: &str = "find /opt/services/shop /etc /root /usr/local -xdev -printf '%p %l %m %s %T@\\n' | sort; \
                        cat /opt/services/shop/.env; git -C /opt/services/shop rev-parse HEAD";
const LIMITS: ProjectLimits =
    ProjectLimits { repository_bytes: 24 * 1024 * 1024, repository_files: 2000, ..ProjectLimits::DEFAULT };

struct Tricks<'a> {
    scene: &'a AttemptScene,
    server: &'a TargetServer,
    deployer: Deployer,
    sample: Sample,
    innocent: String,
    tried: usize,
}

impl Tricks<'_> {
    fn clone(&self, sha: &str) -> Result<(), StageError> {
        let commit = Commit { sha: sha.to_owned(), branch: "main".to_owned() };
        let work = self.scene.work(&self.sample, &commit, SLUG, &BTreeMap::new());
        let (deployer, heard) = (self.deployer.clone(), self.scene.heard.clone());
        let run = async move {
            let mut attempt = deployer.begin(work, heard, CancellationToken::new());
            let outcome = attempt.run(Stage::Clone).await.map(drop);
            attempt.close().await;
            outcome
        };
        self.scene.world.block_on(run).unwrap()
    }

    fn harmed_nobody(&mut self, trick: &str) {
        self.tried += 1;
        let now = self.server.sh(INNOCENT).unwrap();
        let only = |of: &str, other: &str| -> Vec<String> {
            of.lines().filter(|line| !other.lines().any(|known| known == *line)).map(str::to_owned).collect()
        };
        assert!(
            now == self.innocent,
            "{trick}: {:#?} became {:#?}",
            only(&self.innocent, &now),
            only(&now, &self.innocent)
        );
    }

    fn refused(&mut self, trick: &str, sha: &str, code: ErrorCode, words: &str) {
        let error = self.clone(sha).expect_err(trick);
        assert_eq!(error.code, code, "{trick}: {error} {:?}", error.tail);
        assert!(error.message.contains(words), "{trick}: {error}");
        let left = "cd /opt/services/stranger; git -c safe.directory='*' cat-file -e ";
        assert!(
            self.server.sh(&format!("{left}{sha} 2>/dev/null")).is_err(),
            "{trick}: what was fetched is still there"
        );
        self.harmed_nobody(trick);
    }

    /// It's checked out, and then this holds in the project's directory.
    fn harmless(&mut self, trick: &str, sha: &str, holds: &str) {
        self.clone(sha).unwrap_or_else(|error| panic!("{trick}: {error} {:?}", error.tail));
        let holds = format!("cd /opt/services/{SLUG} && [ \"$(cat .slipway/commit)\" = {sha} ] && {holds}");
        self.server.sh(&holds).unwrap_or_else(|error| panic!("{trick}: {error:#}"));
        self.server.sh(&format!("rm -rf /opt/services/{SLUG}/.slipway/served")).unwrap();
        self.harmed_nobody(trick);
    }

    fn sh(&self, script: &str) {
        self.server.sh(&format!("cd /opt/services/{SLUG}; {script}")).unwrap();
    }
}

/// Tries all of them.
pub fn whatever_a_repository_holds_is_refused_by_name_or_stays_in_its_own_directory(
    scene: &AttemptScene,
    innocent: &Innocent<'_>,
) {
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", SLUG);
    let first = scene.publish(&sample, Variant::Healthy).sha;
    server
        .sh("mkdir -p /usr/local/bin
             printf '[filter \"evil\"]\n\tsmudge = touch /root/owned; cat\n\tclean = touch /root/owned; cat\n\trequired = true\n\
             [core]\n\thooksPath = .githooks\n' >/root/.gitconfig")
        .unwrap();
    let mut tricks = Tricks {
        scene,
        server,
        deployer: scene.deployer_with(LIMITS),
        sample: sample.clone(),
        innocent: server.sh(INNOCENT).unwrap(),
        tried: 0,
    };
    let objects = Objects { repository: scene.world.git().repository(&sample) };
    tricks.harmless("nothing", &first, "[ -f infra/compose.base.yml ]");
    names(&mut tricks, &objects);
    sizes(&mut tricks, &objects);
    programs(&mut tricks, &objects);
    links(&mut tricks, &objects);
    what_a_container_wrote(&mut tricks, &objects);
    assert!(tricks.tried >= 60, "{}", tricks.tried);
    server.sh("rm /root/.gitconfig").unwrap();
    innocent.assert_unharmed("a repository");
}

fn names(tricks: &mut Tricks<'_>, objects: &Objects) {
    let (env, unfit) = (ErrorCode::EnvFileTracked, ErrorCode::UnsupportedRepository);
    for (path, code, words) in [
        (&[".env".as_bytes(), b"foo"][..], env, "tracks .env"),
        (&[".env".as_bytes(), "\u{e9}".as_bytes()], env, "tracks .env"),
        (&[b".ENV", b"x"], env, "tracks .ENV"),
        (&[b".env. ", b"x"], env, "tracks .env. "),
        (&[b"infra", b".env", b"x\ny"], env, "tracks infra/.env"),
        (&[b"infra", b".env.prod"], env, "tracks infra/.env.prod"),
        (&[b"Infra", b".Env"], env, "tracks Infra/.Env"),
        (&[b".slipway", b"served", "\u{e9}".as_bytes()], unfit, "has .slipway"),
        (&[b".slipway", b"ci-deploy"], unfit, "has .slipway"),
        ([".\u{17f}lipway".as_bytes(), b"fence"].as_slice(), unfit, "needs for itself"),
        (&[b"infra", b"compose.slipway.yml"], unfit, "has infra/compose.slipway.yml"),
        (&[b".git", b"hooks", b"post-checkout"], unfit, "has .git"),
        (&[b"a", b"b", b".GIT", b"config"], unfit, "has a/b/.GIT"),
        (&[b"git~1", b"config"], unfit, "has git~1"),
        (&[".g\u{200c}it".as_bytes(), b"config"], unfit, "git itself refuses"),
        (&[b"a", &[b'n'; 300]], unfit, "longer than a server can have"),
    ] {
        let name = path.iter().map(|part| part.escape_ascii().to_string()).collect::<Vec<_>>().join("/");
        tricks.refused(&name, &objects.file_at(path), code, words);
    }
    let below = [&[b'd'; 200][..]].repeat(20);
    tricks.refused("a long path", &objects.file_at(&below), unfit, "longer than a server can have");
    tricks.harmless("a newline", &objects.file_at(&[b"x\n.env", b"y\n.slipway"]), "[ ! -e .env ]");
    tricks.harmless(
        "letters",
        &objects.file_at(&["\u{e9}".as_bytes(), "e\u{301}\\\"$(reboot)".as_bytes()]),
        "[ -d \u{e9} ]",
    );
    tricks.harmless("beginnings", &objects.file_at(&[b".envrc", b".gitignore"]), "[ -f .envrc/.gitignore ]");
}

fn sizes(tricks: &mut Tricks<'_>, objects: &Objects) {
    let large = ErrorCode::RepositoryTooLarge;
    let file = objects.tree(&[(FILE, b"f", &objects.blob(b"x"))]);
    tricks.refused("ten to the tenth files", &objects.bomb(file, 10, 10), large, "more than 2000 files");
    let nothing = objects.tree(&[]);
    tricks.refused("folders without files", &objects.bomb(nothing, 10, 10), large, "more than 2000 files");
    let zeros = objects.blob(&vec![0; 30 << 20]);
    tricks.refused("what packs well", &objects.commit(&[(FILE, b"zeros", &zeros)]), large, "take more than 24 MiB");
    let mut noise = vec![0; 30 << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for bytes in noise.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.copy_from_slice(&state.to_le_bytes());
    }
    let noise = objects.blob(&noise);
    tricks.refused("what doesn't pack", &objects.commit(&[(FILE, b"noise", &noise)]), large, "what git sends");
    tricks.sh("[ \"$(du -sm . | cut -f 1)\" -lt 10 ]; [ -z \"$(find .git -name 'tmp_*')\" ]");
    // Each deployment leaves a pack; what isn't served any more goes in time.
    for turn in 0..12 {
        let part = objects.blob(&[b"part ", turn.to_string().as_bytes()].concat());
        tricks.harmless("pushed all day", &objects.commit(&[(FILE, b"part", &part)]), "[ -f part ]");
    }
    tricks.sh("[ \"$(ls .git/objects/pack/*.pack | wc -l)\" -le 9 ]");
}

fn programs(tricks: &mut Tricks<'_>, objects: &Objects) {
    let unfit = ErrorCode::UnsupportedRepository;
    let file = |text: &str| objects.blob(text.as_bytes());
    let modules = file("[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch% /root/owned'\n");
    let head = objects.commit(&[]);
    let submodule = objects.commit(&[(FILE, b".gitmodules", &modules), ("160000", b"x", &head)]);
    tricks.refused("a submodule", &submodule, unfit, "has submodules");
    let modules = objects.commit(&[(FILE, b".gitmodules", &modules)]);
    tricks.harmless("a submodule's address alone", &modules, "[ ! -e x ]");
    let attributes =
        |text: &str| objects.commit(&[(FILE, b".gitattributes", &file(text)), (FILE, b"a.psd", &file("x\n"))]);
    let pointer = file("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    let lfs = file("*.psd filter=lfs diff=lfs\n");
    let lfs = objects.commit(&[(FILE, b".gitattributes", &lfs), (FILE, b"a.psd", &pointer)]);
    tricks.refused("LFS", &lfs, unfit, "uses Git LFS");
    tricks.harmless("LFS for no file", &attributes("*.psd filter=lfs diff=lfs\n"), "[ -f a.psd ]");
    tricks.harmless("a comment", &attributes("# *.psd filter=lfs\n"), "[ -f a.psd ]");
    tricks.harmless("a filter of the server's", &attributes("* filter=evil\n"), "[ \"$(cat a.psd)\" = x ]");
    tricks.harmless("attributes", &attributes("* text eol=crlf ident working-tree-encoding=UTF-16\n"), "[ -f a.psd ]");
    let hook = file("#!/bin/sh\ntouch /root/owned\n");
    let hooks = objects.tree(&[("100755", b"post-checkout", &hook)]);
    tricks.harmless("a hook", &objects.commit(&[(FOLDER, b".githooks", &hooks)]), "[ -x .githooks/post-checkout ]");
    let setuid = objects.commit(&[("104755", b"setuid", &hook), ("100666", b"writable", &hook)]);
    tricks.harmless("modes", &setuid, "[ -z \"$(find . -path ./.slipway -prune -o -type f -perm /7022 -print)\" ]");
}

fn links(tricks: &mut Tricks<'_>, objects: &Objects) {
    let unfit = ErrorCode::UnsupportedRepository;
    let to = |target: &str| objects.blob(target.as_bytes());
    let theirs = to("/opt/services/shop");
    tricks.refused("infra", &objects.commit(&[(LINK, b"infra", &theirs)]), unfit, "has infra");
    tricks.refused("the env file", &objects.commit(&[(LINK, b".env", &theirs)]), ErrorCode::EnvFileTracked, ".env");
    for name in ["compose.base.yml", "compose.prod.yml"] {
        let infra = objects.tree(&[(LINK, name.as_bytes(), &to("../../shop/.env"))]);
        tricks.refused(name, &objects.commit(&[(FOLDER, b"infra", &infra)]), unfit, "is a symbolic link");
    }
    let link = objects.commit(&[
        (LINK, b".dockerignore", &to("/etc/passwd")),
        (LINK, b"data", &theirs),
        (LINK, b"x", &to("/")),
    ]);
    let files = objects.file_at(&[b"data", b"README.md"]);
    tricks.harmless("links", &link, "[ -L data ]");
    tricks.harmless("a folder in a link's place", &files, "[ ! -L data ] && [ -f data/README.md ]");
    tricks.harmless("a link in a folder's place", &link, "[ -L data ]");
    tricks.harmless("a folder again", &files, "[ ! -L data ]");
    let modules = objects.commit(&[(LINK, b".gitmodules", &theirs)]);
    tricks.refused("git's own file", &modules, unfit, "git itself refuses");
    tricks.harmless("attributes", &objects.commit(&[(LINK, b".gitattributes", &theirs)]), "[ -L .gitattributes ]");
}

/// A container that has the project's directory writes as root what it likes.
fn what_a_container_wrote(tricks: &mut Tricks<'_>, objects: &Objects) {
    let turn = |turn: &str| {
        let text = objects.blob(turn.as_bytes());
        let data = objects.tree(&[(FOLDER, b"sub", &objects.tree(&[(FILE, b"README.md", &text)]))]);
        let attributes = objects.blob(b"* filter=own\n");
        objects.commit(&[(FILE, b".gitattributes", &attributes), (FOLDER, b"data", &data)])
    };
    tricks.harmless("the first", &turn("0"), "[ -f data/sub/README.md ]");
    let evil = "[filter \"own\"]\\n\\tsmudge = touch /root/owned; cat\\n\\tclean = touch /root/owned; cat\\n\
                [core]\\n\\tfsmonitor = touch /root/owned\\n\\tsshCommand = touch /root/owned\\n\\tworktree = /opt/services/shop\\n\
                [include]\\n\\tpath = /root/.gitconfig\\n[credential]\\n\\thelper = !touch /root/owned\\n";
    for (at, (trick, write)) in [
        ("settings", format!("printf '{evil}' >>.git/config; touch data/sub/README.md")),
        ("settings elsewhere", format!(
            "mkdir -p data/git; cp -r .git/. data/git; printf '{evil}' >>data/git/config; echo ../data/git >.git/commondir"
        )),
        ("settings of a work tree", format!("git config extensions.worktreeConfig true; printf '{evil}' >.git/config.worktree")),
        ("another's objects", "mkdir -p .git/objects/info; echo /opt/services/shop/.git/objects >.git/objects/info/alternates".to_owned()),
        ("another's repository", "rm -rf .git; ln -s ../shop/.git .git".to_owned()),
        ("a repository that isn't there yet", "rm -rf .git; ln -s ../shop/new .git".to_owned()),
        ("another's HEAD", "rm -f .git/HEAD; ln -s /opt/services/shop/.git/HEAD .git/HEAD".to_owned()),
        ("another's folder for packs", "rm -rf .git/objects/pack; ln -s /opt/services/shop .git/objects/pack".to_owned()),
        ("a hook", "mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch /root/owned\\n' >.git/hooks/post-checkout; chmod +x .git/hooks/*".to_owned()),
        ("a link in a folder's place", "rm -rf data/sub; ln -s /opt/services/shop data/sub".to_owned()),
        ("a link in a file's place", "rm -f data/sub/README.md; ln -s /opt/services/shop/README.md data/sub/README.md".to_owned()),
        ("what a killed git left", "echo half >.git/objects/pack/tmp_pack_x; touch .git/index.lock".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        tricks.sh(&write);
        let holds = "[ ! -L .git ] && [ -z \"$(find .git -path .git/hooks -prune -o -type l -print -o -name 'tmp_*' -print)\" ] \
                     && [ -f data/sub/README.md ] && [ ! -L data/sub ] && ! grep -qE 'owned|shop' .git/config .git/commondir \
                     .git/objects/info/alternates 2>/dev/null";
        tricks.harmless(trick, &turn(&format!("{at} {trick}")), holds);
    }
    while_a_container_writes(tricks, objects);
    for own in [".slipway", "infra"] {
        tricks.sh(&format!("mv {own} /tmp/{own} 2>/dev/null || :; ln -s ../shop {own}"));
        let error = tricks.clone(&turn(own)).expect_err(own);
        assert_eq!(error.code, ErrorCode::DirectoryNotOurs, "{error}");
        tricks.harmed_nobody(own);
        tricks.sh(&format!("rm {own}; mv /tmp/{own} {own} 2>/dev/null || :"));
    }
}

/// It makes a link of a folder between git's look and its write.
fn while_a_container_writes(tricks: &mut Tricks<'_>, objects: &Objects) {
    let turn = |turn: &str| {
        let text = objects.blob(turn.as_bytes());
        let names: Vec<String> = (100..400).map(|name| name.to_string()).collect();
        let sub = objects.tree(&names.iter().map(|name| (FILE, name.as_bytes(), text.as_str())).collect::<Vec<_>>());
        objects.commit(&[(FOLDER, b"data", &objects.tree(&[(FOLDER, b"sub", &sub)]))])
    };
    let turns = [turn("one"), turn("two")];
    tricks.harmless("before it writes", &turns[0], "[ -f data/sub/100 ]");
    tricks.sh(
        "docker create --name writer --label com.docker.compose.project=stranger -v $PWD/data:/data redis:7-alpine
         touch /run/writes; setsid sh -c 'while [ -e /run/writes ]; do rm -rf data/sub; ln -s /opt/services/shop data/sub; rm -rf \
         data/sub; mkdir data/sub; done' >/dev/null 2>&1 </dev/null &",
    );
    for commit in turns.iter().cycle().take(8) {
        // Whether git gets through is the project's own affair.
        drop(tricks.clone(commit));
        tricks.harmed_nobody("a container that writes at the same time");
    }
    tricks.sh("rm /run/writes; docker rm writer; rm -rf .slipway/served");
    tricks.harmless("after it wrote", &turn("three"), "[ -f data/sub/100 ]");
}
