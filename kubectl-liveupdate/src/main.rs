//! `kubectl liveupdate`: see, steer and simulate live updates.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_liveupdate::main()
}
