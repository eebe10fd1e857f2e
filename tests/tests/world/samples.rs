//! Whether the sample projects and their images are what the field has: they deploy by hand and fail as told.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipway_tests::world::{Cache, Generation, Image, Module, Sample, Variant, World, WorldOptions, eventually};

fn world() -> World {
    World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap()
}

#[test]
fn each_generation_requires_exactly_the_variables_that_the_field_knows() {
    let postgres = ["POSTGRES_DB", "POSTGRES_HOST", "POSTGRES_PASSWORD", "POSTGRES_PORT", "POSTGRES_USER"];
    let one = [&["BACKEND_IMAGE"], &postgres[..], &["TG_BOT_IMAGE"]].concat();
    let two = vec!["BACKEND_IMAGE", "BACKEND_PORT", "TG_BOT_IMAGE"];
    for (generation, required) in [(Generation::One, one), (Generation::Two, two)] {
        let folder = tempfile::tempdir().unwrap();
        Sample::new(generation, "acme", "shop").write(folder.path()).unwrap();
        let output = Command::new(Cache::open().unwrap().compose())
            .args(["-f", "infra/compose.base.yml", "-f", "infra/compose.prod.yml", "config", "--variables"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut found: Vec<String> =
            rows.filter(|row| row.get(1) == Some(&"true")).map(|row| row[0].to_owned()).collect();
        found.sort();
        assert_eq!(found, required, "{generation:?}: {table}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_set_of_modules_is_a_project_that_compose_can_read() {
    for generation in Generation::ALL {
        for set in 1..16 {
            let has = |at: usize| set >> at & 1 == 1;
            let modules: Vec<_> = (0..4).filter(|at| has(*at)).map(|at| Module::ALL[at]).collect();
            let folder = tempfile::tempdir().unwrap();
            Sample::new(generation, "acme", "shop").of(&modules).write(folder.path()).unwrap();
            let at = |file: &str| folder.path().join(file);
            fs::copy(at(".env.example"), at(".env")).unwrap();
            if generation == Generation::One {
                fs::write(at("infra/.env.prod"), "").unwrap();
            }
            let images = Module::ALL.map(|module| (format!("{}_IMAGE", module.service().to_uppercase()), "i"));
            let output = Command::new(Cache::open().unwrap().compose())
                .args(["--env-file", ".env", "--profile", "*", "-f", "infra/compose.base.yml"])
                .args(["-f", "infra/compose.prod.yml", "config", "--services"])
                .envs(images)
                .current_dir(folder.path())
                .output()
                .unwrap();
            let mut found: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
            let mut expected: Vec<_> = modules.iter().map(|module| module.service()).collect();
            let [backend, bot, _, worker] = [0, 1, 2, 3].map(has);
            expected.extend(backend.then_some("db"));
            // Where only generation 2's backend asks for it, it's in the base file alone.
            expected.extend((bot || worker || backend && generation == Generation::Two).then_some("redis"));
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{generation:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Puts a project on a server by hand, as its README would tell: what Slipway is to do by itself.
fn deploy_by_hand(world: &World, sample: &Sample, env: &str) -> Result<()> {
    let target = world.target(0);
    let commit = world.publish(sample)?;
    let project = format!("/opt/services/{}", sample.snake_name());
    let host = target.root()?.join(project.trim_start_matches('/'));
    fs::create_dir_all(&host)?;
    // git itself takes a path through /proc/…/root for one of this machine.
    let mut archive = Command::new("git")
        .arg("--git-dir")
        .arg(world.git().repository(sample))
        .args(["archive", &commit.sha])
        .stdout(Stdio::piped())
        .spawn()?;
    let files = archive.stdout.take().context("stdout is piped")?;
    let unpacked = target.command("tar")?.args(["-x", "-C", &project]).stdin(files).status()?;
    ensure!(archive.wait()?.success() && unpacked.success(), "the commit's files");
    let image = |module| format!("ghcr.io/{}:{}", sample.image(module), commit.tag());
    let images = format!("BACKEND_IMAGE={}\nTG_BOT_IMAGE={}\n", image(Module::Backend), image(Module::TgBot));
    fs::write(
        host.join(".env"),
        format!("{env}{images}APP_NAME=shop\nREDIS_URL=redis://redis:6379\nTELEGRAM_BOT_TOKEN=1:a\n"),
    )?;
    if sample.generation() == Generation::One {
        fs::write(host.join("infra/.env.prod"), "")?;
    }
    let login = world.registry_credential();
    target.sh(&format!(
        "cd {project}
         docker login ghcr.io --username {} --password-stdin <<<'{}'
         compose='docker compose --env-file .env -p {} -f infra/compose.base.yml -f infra/compose.prod.yml --profile tg'
         $compose pull --quiet
         $compose up --detach --no-build --remove-orphans",
        login.username,
        login.password,
        sample.snake_name(),
    ))?;
    let port = if sample.generation() == Generation::One { 8000 } else { 8100 };
    let url = format!("http://{}:{port}/health", target.ip());
    eventually("the deployed commit is healthy", Duration::from_secs(60), || {
        let answer = world.get(&url)?;
        ensure!(answer.status == 200 && answer.body.contains(&commit.sha), "{answer:?}");
        Ok(())
    })
}

#[test]
fn samples_of_both_generations_deploy_by_hand_and_answer() {
    let world = world();
    let target = world.target(0);
    let postgres =
        "POSTGRES_USER=app\nPOSTGRES_PASSWORD=secret\nPOSTGRES_HOST=db\nPOSTGRES_PORT=5432\nPOSTGRES_DB=app\n";
    let one = Sample::new(Generation::One, "Acme-Org", "My.First-Shop");
    deploy_by_hand(&world, &one, &format!("{postgres}BACKEND_REPLICAS=1\n")).unwrap();
    let two = Sample::new(Generation::Two, "Acme-Org", "my-second-shop");
    deploy_by_hand(&world, &two, "BACKEND_PORT=8100\n").unwrap();
    for project in ["my_first_shop", "my_second_shop"] {
        let state =
            format!("docker inspect --format '{{{{.State.Running}}}} {{{{.RestartCount}}}}' {project}-tg_bot-1");
        assert_eq!(target.sh(&state).unwrap(), "true 0\n", "{project}");
    }
    assert!(target.processes().unwrap().iter().any(|argv| argv.iter().any(|argument| argument == "/app/backend")));

    let url = format!("http://{}:8100/health", target.ip());
    let change = "alter user postgres password 'another';
        select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid()";
    target.sh(&format!("docker exec my_second_shop-db-1 psql -U postgres -c \"{change}\"")).unwrap();
    assert_eq!(world.get(&url).unwrap().status, 503, "health logs in with the password, once its connection is gone");

    let began = Instant::now();
    target.sh("docker stop my_second_shop-backend-1 my_second_shop-tg_bot-1 my_second_shop-redis-1").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "stops are fast: {:?}", began.elapsed());
}

#[test]
fn an_image_variant_fails_the_way_its_name_says() {
    let world = world();
    let target = world.target(0);
    let pull = target.sh("docker pull redis:7-alpine && docker pull ghcr.io/acme/shop-backend:latest");
    assert!(pull.unwrap_err().to_string().contains("no basic auth credentials"), "ghcr.io is private");

    let variants = [Variant::CrashLoop, Variant::Unhealthy, Variant::FailingMigration, Variant::NotFound];
    for (port, variant) in (9000..).zip(variants) {
        let digest = world
            .docker_hub()
            .put("acme/shop-backend", "latest", &Image::module(Module::Backend, variant, None))
            .unwrap();
        target
            .sh(&format!(
                "docker run --detach --name v{port} --env REDIS_URL=redis://redis:6379 --publish {port}:8000 \
                 acme/shop-backend@{digest}"
            ))
            .unwrap();
    }
    for (port, status) in [(9001, 503), (9003, 404)] {
        let url = format!("http://{}:{port}/health", target.ip());
        eventually("an answer", Duration::from_secs(10), || {
            ensure!(world.get(&url)?.status == status, "another status");
            Ok(())
        })
        .unwrap();
    }
    for name in ["v9000", "v9002"] {
        assert_eq!(target.sh(&format!("docker wait {name}")).unwrap(), "1\n", "{name}");
    }
    assert!(target.sh("docker logs v9002 2>&1").unwrap().contains("alembic"));
}
