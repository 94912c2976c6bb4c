#!/usr/bin/env bash
# The demo, with all of its set-up: on a fresh machine it builds for some minutes and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
lab/tools/build.sh >/dev/null
cargo build --workspace --bins --locked
args=()
[ -z "${KEEP:-}" ] || args+=(--keep)
exec target/debug/liveupdate-lab demo "${args[@]}"
