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
driver=$(cd "$here/../../kmod" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

patch=
case ${1:-} in
  "") ;;
  --defective) patch=$here/defects.patch ;;
  *) fail "unknown option $1; see the head of $0" ;;
esac
kernel=$("$here/debug-kernel.sh")
sources() { cd "$driver" && ls Kbuild ./*.[ch] include/*.h; }
key=$({ echo "$kernel"; cat "$here/debug-driver.sh" ${patch:+"$patch"}; cd "$driver"; sources | xargs tail -n +1; } | sha256sum | cut -c1-16)
out=$cache/debug-driver-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
mkdir -p "$out"
exec 9>"$out.lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

# Kbuild builds where the sources lie, so in a copy.
work=$out/work
rm -rf "$work"
mkdir -p "$work"
(cd "$driver" && sources | xargs cp --parents -t "$work")
[ -z "$patch" ] || patch -s -p1 -d "$work" <"$patch" >&2 || fail "$patch does not apply to kmod/ any more: make it anew"
tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kernel/build/Makefile")
nice -n 10 make -s -C "$tree" O="$kernel/build" M="$work" modules >&2 || fail "the driver does not build for the debug kernel"
strip --strip-debug -o "$out/vfio_pci_liveupdate.ko" "$work/vfio_pci_liveupdate.ko"
rm -rf "$work"
touch "$out/complete"
echo "$out"
