#!/usr/bin/env bash
# Does what docs/adopting.md says of a kernel's configuration and of the driver's package, and fails when something of the
# fragment is without effect, or the package has not what it should have. Prints both.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$(cd "$here/../../kmod" && pwd)
fail() { echo "lab: $1" >&2; exit 1; }
kernels=$("$here/../kernels/build.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Somebody's own configuration is here the kernel's own default for this machine, with the old kexec call.
tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kernels/lu1/build/Makefile")
mkdir "$work/build"
nice -n 10 make -s -C "$tree" O="$work/build" defconfig >/dev/null
grep -qx CONFIG_KEXEC=y "$work/build/.config" || fail "defconfig has no old kexec call: nothing would show that the fragment takes it away"
(cd "$tree" && nice -n 10 scripts/kconfig/merge_config.sh -O "$work/build" "$work/build/.config" "$driver/liveupdate.config") >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; fail "kmod/liveupdate.config cannot be merged"; }
options=0
while read -r line; do
  case $line in
    CONFIG_*=*) grep -qxF "$line" "$work/build/.config" || fail "kmod/liveupdate.config: $line is without effect" ;;
    "# CONFIG_"*" is not set") option=${line#\# }; ! grep -q "^${option%% *}=" "$work/build/.config" || fail "kmod/liveupdate.config: $line is without effect" ;;
    *) continue ;;
  esac
  options=$((options + 1))
done <"$driver/liveupdate.config"
echo "kmod/liveupdate.config: $options options, all with effect on defconfig"

release=$(cat "$kernels/lu1/release")
# A build folder as a package of headers would have it: its outputs are its own, and not of the cache.
cp -a "$kernels/lu1/build" "$work/headers"
sed -i "s|^export KBUILD_OUTPUT = .*|export KBUILD_OUTPUT = $work/headers|" "$work/headers/Makefile"
"$driver/package.sh" "$work/headers" "$work" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "kmod/package.sh failed"; }
package=$(find "$work" -maxdepth 1 -name "vfio-pci-liveupdate-${release}_*.deb")
[ -n "$package" ] || fail "kmod/package.sh made no package for $release"
dpkg-deb --extract "$package" "$work/files"
for file in "lib/modules/$release/updates/vfio_pci_liveupdate.ko" usr/lib/modprobe.d/vfio-pci-liveupdate.conf; do
  [ -s "$work/files/$file" ] || fail "the package has no $file"
done
# Nothing on a node turns it on but its owner.
! grep -qE '^[[:space:]]*[^#[:space:]].*enable' "$work/files/usr/lib/modprobe.d/vfio-pci-liveupdate.conf" || fail "the package turns the driver on"
grep -qa "vermagic=$release " "$work/files/lib/modules/$release/updates/vfio_pci_liveupdate.ko" || fail "the package's module is for another kernel than $release"
echo "$(basename "$package"): the driver for $release, its opt-in off"
