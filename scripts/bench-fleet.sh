#!/usr/bin/env bash
# A rollout over many simulated nodes, measured; in release, since the figures are the controller's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
lab/tools/build.sh >/dev/null
cargo build --release --workspace --bins --locked
exec target/release/liveupdate-lab bench-fleet --nodes "${1:-1000}"
