//! `cargo pycandle`: generate, look into and verify traced models from the command line.
//!
//! Results go to stdout, everything else to stderr. The exit code is 0 when all is well, 1 when a
//! model is not (wrong manifest or checkpoint, unsupported ops, no parity) and 2 when the command
//! itself could not run.

mod check;
mod codegen;
mod extract;
mod inspect;
mod lock;
mod outcome;
mod parity;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use outcome::Outcome;

/// Generate, look into and verify Candle models traced from PyTorch.
#[derive(Parser)]
#[command(name = "cargo-pycandle", bin_name = "cargo pycandle", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Codegen(codegen::Args),
    Extract(extract::Args),
    Inspect(inspect::Args),
    Lock(lock::Args),
    Parity(parity::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments());
    let outcome = match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Codegen(args) => codegen::run(&args),
        Command::Extract(args) => extract::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Parity(args) => parity::run(&args),
    };
    match outcome {
        Outcome::Ok => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Broken(message) => {
            outcome::print_error(&message);
            ExitCode::from(2)
        }
    }
}

/// The arguments without the `pycandle` that Cargo repeats when it runs a subcommand.
fn arguments() -> impl Iterator<Item = OsString> {
    let repeated = std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "pycandle");
    std::env::args_os()
        .enumerate()
        .filter(move |(i, _)| !(repeated && *i == 1))
        .map(|(_, arg)| arg)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
