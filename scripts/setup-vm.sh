#!/usr/bin/env bash
# All that QEMU guests need: packages, the control plane and the kernels, each built once and then taken from its
# cache. On a fresh machine this takes many minutes, and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/setup-kernels.sh
lab/tools/build.sh >/dev/null
lab/helm/build.sh >/dev/null
lab/kernels/build.sh >/dev/null
lab/kernels/build.sh --driver >/dev/null
lab/kernels/distribution.sh >/dev/null
lab/kernels/driver.sh >/dev/null
lab/driver/spoilt.sh >/dev/null
lab/driver/virtio.sh >/dev/null
lab/rootfs/build.sh >/dev/null
