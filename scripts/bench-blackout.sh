#!/usr/bin/env bash
# The blackout of a LiveUpdate against a bare kexec, in QEMU guests. The lab's own build does not matter: what runs in
# the guests is built with optimisation, as it is shipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup-vm.sh
cargo build --workspace --bins --locked
exec target/debug/liveupdate-lab bench-blackout --pairs "${1:-30}" --gib "${2:-0,1,4}"
