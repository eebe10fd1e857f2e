//! The arguments of `slipway dead-letters replay`, for what is sent as it came (`replay`) and what is edited (`edit`).

use std::path::PathBuf;

use super::selection::Selection;
use crate::commands::operator::OperatorArgs;

/// The most that one command sends.
pub(super) const LIMIT: u32 = 1_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) selection: Selection,

    /// Only say what would be sent
    #[arg(long)]
    pub(super) dry_run: bool,

    /// At most so many, the oldest first
    #[arg(long, alias = "max", value_name = "N", default_value_t = LIMIT)]
    pub(super) limit: u32,

    /// At most so many a second
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(super) rate: Option<u32>,

    /// Run every stage again, not only from the one that failed
    #[arg(long)]
    pub(super) from_start: bool,

    /// Also those whose project has a newer deployment by now; they count as the newest then
    #[arg(long)]
    pub(super) force: bool,

    /// Edit the event in $EDITOR and send it as a new one, with `causationid` naming the old one
    #[arg(long, conflicts_with_all = ["limit", "rate"])]
    pub(super) edit: bool,

    /// Send what this file holds as the edited event; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["edit", "limit", "rate"])]
    pub(super) with: Option<PathBuf>,

    #[command(flatten)]
    pub(super) operator: OperatorArgs,

    /// Don't ask, though they are chosen by conditions
    #[arg(long)]
    pub(super) yes: bool,
}

/// `20` or `20/s`.
fn parse_rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<u32>();
    number.ok().filter(|n| *n > 0).ok_or_else(|| "must be a number a second, such as 20 or 20/s".to_owned())
}
