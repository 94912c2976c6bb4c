#!/usr/bin/env bash
# The demo with real kernels, with all of its set-up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup-vm.sh
cargo build --workspace --bins --locked
exec target/debug/liveupdate-lab demo-vm
