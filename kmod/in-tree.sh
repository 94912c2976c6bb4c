#!/usr/bin/env bash
# Prints a patch that puts the driver into a kernel's tree, for kernels that have it built in, or as a module of their own:
#
#   kmod/in-tree.sh TREE | patch -p1 -d TREE
#
# TREE has the patches of kmod/patches for its release. Its configuration knows CONFIG_VFIO_PCI_LIVEUPDATE then.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 1 ] || { echo "usage: $0 TREE" >&2; exit 2; }
tree=$(cd "$1" && pwd)
pci=drivers/vfio/pci
hooks=("$pci/Makefile" "$pci/Kconfig")
for file in "${hooks[@]}"; do
  [ -e "$tree/$file" ] || { echo "$tree has no $file; is it a kernel's source?" >&2; exit 1; }
done
[ ! -e "$tree/$pci/liveupdate" ] || { echo "$tree has $pci/liveupdate already" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/a" "$work/b"
for side in a b; do (cd "$tree" && cp --parents -t "$work/$side" "${hooks[@]}"); done
mkdir "$work/b/$pci/liveupdate"
(cd "$here" && cp --parents -t "$work/b/$pci/liveupdate" Kbuild Kconfig ./*.[ch] include/*.h)
# shellcheck disable=SC2016 # The dollar is Kbuild's.
printf '\nobj-$(CONFIG_VFIO_PCI_LIVEUPDATE) += liveupdate/\n' >>"$work/b/$pci/Makefile"
sed -i "s|^endmenu\$|source \"$pci/liveupdate/Kconfig\"\n\n&|" "$work/b/$pci/Kconfig"
grep -q liveupdate "$work/b/$pci/Kconfig" || { echo "$tree/$pci/Kconfig ends in another way than is known here" >&2; exit 1; }
# diff's 1 says that they differ, as they must.
(cd "$work" && diff -Nru a b) || [ $? = 1 ]
