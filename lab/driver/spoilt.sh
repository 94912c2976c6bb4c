#!/usr/bin/env bash
# Builds the driver that does one thing wrong (spoilt.patch) for each of the lab's kernels that has live update, into
# the cache, and prints the folder. Never shipped: tests see with it that they would notice.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../kernels/driver.sh" --patch "$here/spoilt.patch"
