#!/usr/bin/env bash
# Builds the driver for the debug kernel into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/vfio_pci_liveupdate.ko
#
#   lab/driver/debug-driver.sh                as it is
#   lab/driver/debug-driver.sh --defective    with the defects of defects.patch, which a parameter turns on: never
#                                             shipped; the tests see with it that the watchers would notice
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
patch=()
case ${1:-} in
  "") ;;
  --defective) patch=(--patch "$here/defects.patch") ;;
  *) echo "lab: unknown option $1; see the head of $0" >&2; exit 2 ;;
esac
kernel=$("$here/debug-kernel.sh")
built=$("$here/../kernels/driver.sh" --kernel "$kernel" "${patch[@]}")
echo "$built/$(basename "$kernel")"
