//! The binary: the guard of long children, or the command line.

use std::ffi::OsStr;
use std::process::ExitCode;

use pgpair::cli;
use pgpair::world::process;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).as_deref() == Some(OsStr::new(process::GUARD)) {
        return process::guard_main(arguments);
    }
    cli::main(std::env::args_os())
}
