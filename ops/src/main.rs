//! The binary `slipway`: parses the arguments and leaves with the command's exit code. Everything else is in the
//! library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    slipway::run(slipway::Cli::parse())
}
