//! The program `liveupdate-controller`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    liveupdate_controller::process::main()
}
