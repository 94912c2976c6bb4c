#!/usr/bin/env bash
# Builds the driver (kmod/) for each of the lab's kernels that has live update, into the cache, once per set of
# inputs, and prints the folder:
#
#   <folder>/<variant>/vfio_pci_liveupdate.ko
#
#   lab/kernels/driver.sh          build what is missing, kernels as well, print the folder on stdout
#   lab/kernels/driver.sh --path   print the folder only; exit 1 when it is not built yet
#   lab/kernels/driver.sh [--path] --patch FILE   the same of a driver with this patch, which is none that is shipped
#   lab/kernels/driver.sh --kernel FOLDER         for that kernel alone, which is none of the lab's variants: FOLDER/build
#
# The folder's name is a hash of the driver's sources, of the patch and of the kernels' folder. Nothing is written beside the
# sources. Progress goes to stderr. Safe to run twice at once (a lock).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$(cd "$here/../../kmod" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

path= patch= kernel=
while [ $# -gt 0 ]; do
  case $1 in
    --path) path=1 ;;
    --patch) patch=$(realpath -e "${2:?--patch needs a file}"); shift ;;
    --kernel) kernel=$(realpath -e "${2:?--kernel needs a folder}"); shift ;;
    *) fail "unknown option $1; see the head of $0" ;;
  esac
  shift
done
if [ "$kernel" ]; then
  kernels=$kernel builds=("$kernel/build")
elif [ "$path" ]; then
  kernels=$("$here/build.sh" --path) || exit 1
else
  kernels=$("$here/build.sh")
fi
sources() { cd "$driver" && ls Kbuild ./*.[ch] include/*.h; }
key=$({ echo "$kernels"; cat "$here/driver.sh" ${patch:+"$patch"}; cd "$driver"; sources | xargs tail -n +1; } | sha256sum | cut -c1-16)
out=$cache/$key
if [ "$path" ]; then
  echo "$out"
  [ -e "$out/complete" ]
  exit
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

mkdir -p "$out"
exec 9>"$cache/lock"
if ! flock -n 9; then
  echo "lab: another process builds drivers; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

begun=$SECONDS
[ "$kernel" ] || builds=("$kernels"/*/build)
for kernel in "${builds[@]}"; do
  variant=$(basename "$(dirname "$kernel")")
  grep -qx CONFIG_LIVEUPDATE=y "$kernel/.config" || continue
  work=$out/$variant.work
  rm -rf "$work"
  mkdir -p "$work"
  # Kbuild builds where the sources lie, so in a copy.
  (cd "$driver" && sources | xargs cp --parents -t "$work")
  [ -z "$patch" ] || patch -s -p1 -d "$work" <"$patch" >&2 ||
    fail "$patch does not apply to kmod/ any more: change the driver by hand as its head says, and make it anew"
  # The kernel's own folder names the tree that all kernels share, which is now as the last of them was.
  tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kernel/Makefile")
  nice -n 10 make -s -C "$tree" O="$kernel" M="$work" W=1 modules >&2 ||
    fail "the driver does not build for kernel $variant"
  mkdir -p "$out/$variant"
  strip --strip-debug -o "$out/$variant/vfio_pci_liveupdate.ko" "$work/vfio_pci_liveupdate.ko"
  rm -rf "$work"
done
touch "$out/complete"
echo "lab: built the driver in $((SECONDS - begun)) s" >&2
echo "$out"
