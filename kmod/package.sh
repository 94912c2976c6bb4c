#!/usr/bin/env bash
# Packs the driver for one kernel as a Debian package, without its opt-in: that is the node's to give.
#
#   kmod/package.sh BUILD [OUT]
#
# BUILD is the build folder of a patched kernel (its own package comes of `make bindeb-pkg` there), OUT the
# folder for the package, by default this one. Nothing is written beside the sources.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 BUILD [OUT]" >&2; exit 2; }
build=$(cd "$1" && pwd)
out=$(cd "${2:-.}" && pwd)
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$here/dkms.conf")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/source" "$work/tree"
(cd "$here" && cp --parents -t "$work/source" Kbuild Makefile ./*.[ch] include/*.h)
make -s -C "$work/source" KDIR="$build"
module=$work/source/vfio_pci_liveupdate.ko
# The kernel that the module says it is for, which is what has to match.
release=$(tr '\0' '\n' <"$module" | sed -n 's/^vermagic=\([^ ]*\) .*/\1/p' | head -1)
[ -n "$release" ] || { echo "$module names no kernel; was it built by $build?" >&2; exit 1; }
install -D -m 644 "$module" "$work/tree/lib/modules/$release/updates/vfio_pci_liveupdate.ko"
strip --strip-debug "$work/tree/lib/modules/$release/updates/vfio_pci_liveupdate.ko"
install -D -m 644 "$here/modprobe.conf" "$work/tree/usr/lib/modprobe.d/vfio-pci-liveupdate.conf"
install -D -m 644 "$here/abi-sysfs.md" "$work/tree/usr/share/doc/vfio-pci-liveupdate-$release/abi-sysfs.md"

mkdir "$work/tree/DEBIAN"
cat >"$work/tree/DEBIAN/control" <<END
Package: vfio-pci-liveupdate-$release
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: The liveupdate authors
Section: kernel
Priority: optional
Depends: linux-image-$release, kmod
Description: VFIO PCI devices over a kexec, for Linux $release (EXPERIMENTAL)
 Does nothing until the module is loaded with enable=1.
END
printf '#!/bin/sh\nset -e\ndepmod %s\n' "$release" >"$work/tree/DEBIAN/postinst"
cp "$work/tree/DEBIAN/postinst" "$work/tree/DEBIAN/postrm"
chmod 755 "$work/tree/DEBIAN/postinst" "$work/tree/DEBIAN/postrm"
dpkg-deb --root-owner-group --build "$work/tree" "$out/vfio-pci-liveupdate-${release}_${version}.deb"
