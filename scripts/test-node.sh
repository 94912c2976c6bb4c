#!/usr/bin/env bash
# The tests on a real node (systemd, containerd, runc, a kubelet) in a QEMU guest, with all of their set-up. Words are
# filters of the tests' names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup-vm.sh
lab/node/build.sh >/dev/null
exec cargo test --workspace --features liveupdate-lab/node --locked --test kube -- "$@"
