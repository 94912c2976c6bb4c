#!/usr/bin/env bash
# Builds a kernel that watches the driver (KASAN, lockdep, kmemleak, fault injection, handover's own checks) and
# the driver for it, into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/{bzImage,config,vfio_pci_liveupdate.ko}
#
# Not one of the lab's variants: it takes as long as all of them, and only tests of the driver want it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../kernels
driver=$here/../../kmod
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

built=$("$kernels/build.sh")
# The patched source that the lab's kernels share.
tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$built/lu1/build/Makefile")
key=$({ echo "$built"; cat "$here/debug-kernel.sh" "$here/debug.config" "$driver"/Kbuild "$driver"/*.[ch] "$driver"/include/*.h; } | sha256sum | cut -c1-16)
out=$cache/debug-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
objects=$cache/debug-objects-$(basename "$built")
mkdir -p "$out" "$objects"
exec 9>"$objects.lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

# What the key was made of, however long the kernel takes.
work=$out/work
rm -rf "$work"
mkdir -p "$work"
(cd "$driver" && cp --parents -t "$work" Kbuild ./*.[ch] include/*.h)
echo "lab: building the debug kernel (once; kept in the cache) ..." >&2
make_kernel() {
  nice -n 5 make -s -C "$tree" O="$objects" -j"$(nproc)" LOCALVERSION= DEPMOD=true "$@" >&2
}
cat "$kernels/common.config" "$kernels/liveupdate.config" "$here/debug.config" >"$objects/wanted"
make_kernel KCONFIG_ALLCONFIG="$objects/wanted" allnoconfig
for option in KASAN PROVE_LOCKING DEBUG_KMEMLEAK FAILSLAB KEXEC_HANDOVER_DEBUG LIVEUPDATE VFIO_PCI; do
  grep -qx "CONFIG_$option=y" "$objects/.config" || fail "CONFIG_$option has no effect in this kernel"
done
make_kernel bzImage modules
make_kernel M="$work" modules
strip --strip-debug -o "$out/vfio_pci_liveupdate.ko" "$work/vfio_pci_liveupdate.ko"
cp "$objects/arch/x86/boot/bzImage" "$out/bzImage"
cp "$objects/.config" "$out/config"
rm -rf "$work"
touch "$out/complete"
echo "$out"
