#!/usr/bin/env bash
# Builds the kernels' own driver for virtio over PCI as a module, for each of the lab's kernels that has live update, into the
# cache, once per set of inputs, and prints the folder:
#
#   <folder>/<variant>/lab_virtio_pci.ko
#
# All of the lab's kernels have it built in, where it takes every virtio device before any module can. With
# initcall_blacklist=virtio_pci_driver_init they come up without it, and this one does the same later, as on distributions
# that have it as a module. It cannot have the name of what is built in; nor can its first function, which the same parameter
# would keep out.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

kernels=$("$here/../kernels/build.sh")
key=$({ echo "$kernels"; cat "$here/virtio.sh"; } | sha256sum | cut -c1-16)
out=$cache/virtio-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

mkdir -p "$out"
exec 9>"$cache/lock"
if ! flock -n 9; then
  echo "lab: another process builds drivers; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

begun=$SECONDS
for kernel in "$kernels"/*/build; do
  variant=$(basename "$(dirname "$kernel")")
  grep -qx CONFIG_LIVEUPDATE=y "$kernel/.config" || continue
  work=$out/$variant.work
  rm -rf "$work"
  mkdir -p "$work"
  tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kernel/Makefile")
  cp "$tree"/drivers/virtio/virtio_pci_*.[ch] "$work"
  # What others could call of it is offered by what is built in already.
  sed -i '/^EXPORT_SYMBOL/d; s/\<virtio_pci_driver\>/lab_&/' "$work"/*.c
  { echo "obj-m := lab_virtio_pci.o"; sed -n 's/^virtio_pci-/lab_&/p' "$tree/drivers/virtio/Makefile"; } >"$work/Kbuild"
  nice -n 10 make -s -C "$tree" O="$kernel" M="$work" modules >&2 ||
    fail "virtio over PCI does not build as a module for kernel $variant"
  mkdir -p "$out/$variant"
  strip --strip-debug -o "$out/$variant/lab_virtio_pci.ko" "$work/lab_virtio_pci.ko"
  rm -rf "$work"
done
touch "$out/complete"
echo "lab: built virtio over PCI as a module in $((SECONDS - begun)) s" >&2
echo "$out"
