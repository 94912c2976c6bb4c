#!/usr/bin/env bash
# Builds a kernel that watches the driver (KASAN, lockdep, kmemleak, fault injection, handover's own checks) into the
# cache, once per set of inputs, and prints the folder:
#
#   <folder>/{bzImage,config,release,build/}
#
# Not one of the lab's variants: it takes as long as all of them, and only tests of the driver want it
# (debug-driver.sh builds the driver for it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../kernels
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

built=$("$kernels/build.sh")
# The patched source that the lab's kernels share, in a folder that is named by source, patches and compiler.
tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$built/lu1/build/Makefile")
identity=$(basename "$(dirname "$tree")")
configuration() { cat "$kernels/common.config" "$kernels/liveupdate.config" "$here/debug.config"; }
key=$({ echo "$identity"; cat "$here/debug-kernel.sh"; configuration; } | sha256sum | cut -c1-16)
out=$cache/debug-kernel-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
objects=$cache/debug-objects-$identity
mkdir -p "$out" "$objects"
exec 9>"$objects.lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

begun=$SECONDS
echo "lab: building the debug kernel (once; kept in the cache) ..." >&2
make_kernel() {
  nice -n 10 make -s -C "$tree" O="$objects" -j"$(nproc)" LOCALVERSION= DEPMOD=true "$@" >&2
}
configuration >"$objects/wanted"
make_kernel KCONFIG_ALLCONFIG="$objects/wanted" allnoconfig
for option in KASAN PROVE_LOCKING DEBUG_ATOMIC_SLEEP DEBUG_KMEMLEAK FAILSLAB FAIL_PAGE_ALLOC SLUB_DEBUG \
  KEXEC_HANDOVER_DEBUG LIVEUPDATE LIVEUPDATE_MEMFD VFIO_PCI VFIO_NOIOMMU VIRTIO_PCI VIRTIO_CONSOLE; do
  grep -qx "CONFIG_$option=y" "$objects/.config" || fail "CONFIG_$option has no effect in this kernel"
done
make_kernel bzImage modules
rm -rf "$out/build"
mkdir "$out/build"
# What Kbuild reads for a module outside the tree.
(cd "$objects" && tar -c --exclude='*.o' --exclude='*.cmd' .config Makefile Module.symvers include arch/x86/include scripts tools/objtool/objtool) |
  tar -x -C "$out/build"
cp "$objects/arch/x86/boot/bzImage" "$out/bzImage"
cp "$objects/.config" "$out/config"
cp "$objects/include/config/kernel.release" "$out/release"
touch "$out/complete"
echo "lab: built the debug kernel in $((SECONDS - begun)) s" >&2
echo "$out"
