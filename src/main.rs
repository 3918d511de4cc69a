//! The binary: the guard of long children, or the command line.

use std::process::ExitCode;

use pgpair::world::process;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == process::GUARD) {
        return process::guard_main(args);
    }
    ExitCode::FAILURE
}
