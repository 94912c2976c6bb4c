#!/usr/bin/env bash
# The demo with real kernels, with all of its set-up: on a fresh machine it builds kernels and the control plane
# first, for many minutes, and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/setup-kernels.sh
lab/tools/build.sh >/dev/null
lab/kernels/build.sh >/dev/null
cargo build --workspace --bins --locked
exec target/debug/liveupdate-lab demo-vm
