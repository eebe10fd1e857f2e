//! The bench behind `tests/bench`: measures the engine, its peers and whole deployments in worlds of its own, and writes
//! each figure down. The script builds and prepares; `tests/bench.d/report.py` makes tables and curves of the figures.

mod bench;
mod contender;
mod deploy;
mod engine;
mod history;
mod idle;
mod latency;
mod orchestrator;
mod record;
mod scene;
mod subscriber;
mod takeover;
mod usage;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use bench::Bench;
use record::Record;
use scene::{BenchScene, within};

/// What `tests/bench` runs
#[derive(Debug, Parser)]
struct Options {
    /// What to measure
    sections: Vec<Section>,
    /// Few and short runs
    #[arg(long)]
    quick: bool,
    /// How often each is measured
    #[arg(long)]
    repetitions: Option<u32>,
    /// How many finished deployments there are at most in section `history`
    #[arg(long)]
    history: Option<u64>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// The file for the figures
    #[arg(long)]
    figures: PathBuf,
    /// The Python that has the peers and Ansible
    #[arg(long)]
    python: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Engine,
    Latency,
    History,
    Workers,
    Servers,
    Takeover,
    Idle,
    Deploy,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            record::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let mut bench = Bench {
        record: Record::create(&options.figures)?,
        repetitions: options.repetitions.unwrap_or(if options.quick { 1 } else { 3 }),
        seconds: if options.quick { 3.0 } else { 8.0 },
        idle_seconds: if options.quick { 20.0 } else { 30.0 },
        burst: if options.quick { 1000 } else { 3000 },
        history: options.history.unwrap_or(if options.quick { 100_000 } else { 1_000_000 }),
        quick: options.quick,
        python: options.python.clone(),
        chosen: options.peers.clone(),
    };
    // Whole deployments need a server, and come last; all else is measured in one world.
    let (deploy, engine): (Vec<Section>, Vec<Section>) =
        options.sections.iter().partition(|section| **section == Section::Deploy);
    let mut failed = Vec::new();
    let mut note = |section: &Section, measured: Result<()>| {
        // What is measured is worth having, whatever becomes of another section.
        if let Err(error) = measured {
            record::error(&error.context(format!("section {section:?}")));
            failed.push(format!("{section:?}"));
        }
    };
    if !engine.is_empty() {
        within(0, |scene| {
            for section in &engine {
                bench.record.say(&format!("section {section:?}"));
                note(section, in_scene(&mut bench, scene, *section));
            }
            Ok(())
        })?;
    }
    for section in &deploy {
        note(section, deploy::measure(&mut bench));
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn in_scene(bench: &mut Bench, scene: &mut BenchScene, section: Section) -> Result<()> {
    match section {
        Section::Engine => engine::measure(bench, scene, false),
        Section::Latency => engine::measure(bench, scene, true),
        Section::History => history::measure(bench, scene),
        Section::Workers => workers::measure(bench, scene),
        Section::Servers => workers::measure_servers(bench, scene),
        Section::Takeover => takeover::measure(bench, scene),
        Section::Idle => idle::measure(bench, scene),
        Section::Deploy => deploy::measure(bench),
    }
}
