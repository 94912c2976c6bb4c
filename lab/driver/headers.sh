#!/usr/bin/env bash
# Takes a kernel of an older series that Debian's backports still have, with the driver's patches, far enough that the
# driver compiles for it, and prints the folder:
#
#   <folder>/{release,build/}
#
#   lab/driver/headers.sh 7.2
#
# The source is lab/kernels/source.sh's. The patches are those of kmod/patches/7.3 but for those that the series'
# own folder has under the same name. Nothing is linked: that would be a whole kernel.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../kernels
patches=$(cd "$here/../../kmod/patches" && pwd)
series=${1:?which series? see the head of $0}
# shellcheck source=lab/driver/once.sh
source "$here/once.sh"
fail() { echo "lab: $1" >&2; exit 2; }

files=()
for file in "$patches"/7.3/*.patch; do
  own=$patches/$series/$(basename "$file")
  if [ -e "$own" ]; then files+=("$own"); else files+=("$file"); fi
done
source=$("$kernels/source.sh" --series "$series")
key=$({ basename "$(dirname "$source")"; cat "$here/headers.sh" "$kernels/common.config" "$kernels/liveupdate.config" "${files[@]}"; gcc --version; } | sha256sum | cut -c1-16)
once "headers-$series-$key"

rm -rf "$out"
mkdir -p "$out/build"
cp -a "$source" "$out/tree"
for file in "${files[@]}"; do
  (cd "$out/tree" && patch --quiet --force --no-backup-if-mismatch --reject-file=- -p1 <"$file" >&2) ||
    fail "$file does not fit linux-source-$series"
done
make_kernel() { nice -n 10 make -s -C "$out/tree" O="$out/build" -j"$(nproc)" LOCALVERSION= "$@" >&2; }
cat "$kernels/common.config" "$kernels/liveupdate.config" >"$out/build/wanted"
make_kernel KCONFIG_ALLCONFIG="$out/build/wanted" allnoconfig
for option in LIVEUPDATE KEXEC_HANDOVER VFIO_DEVICE_CDEV VFIO_PCI; do
  grep -qx "CONFIG_$option=y" "$out/build/.config" || fail "linux-source-$series has no CONFIG_$option"
done
make_kernel modules_prepare
cp "$out/build/include/config/kernel.release" "$out/release"
complete
