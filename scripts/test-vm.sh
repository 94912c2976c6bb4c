#!/usr/bin/env bash
# The tests on real kernels in QEMU guests, with all of their set-up. Words are filters of the tests' names:
# scripts/test-vm.sh update::
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup-vm.sh
exec cargo test --workspace --features liveupdate-lab/vm --locked --test vm -- "$@"
