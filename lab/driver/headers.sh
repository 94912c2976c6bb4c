#!/usr/bin/env bash
# Takes a kernel of an older series that Debian's backports still have, with the driver's patches, far enough that the
# driver compiles for it, and prints the folder:
#
#   <folder>/{release,build/}
#
#   lab/driver/headers.sh 7.2
#
# The source comes as in lab/kernels/source.sh. The patches are those of kmod/patches/7.3 but for those that the series'
# own folder has under the same name. Nothing is linked: that would be a whole kernel.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../kernels
patches=$(cd "$here/../../kmod/patches" && pwd)
series=${1:?which series? see the head of $0}
suite=trixie-backports
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
fail() { echo "lab: $1" >&2; exit 2; }

files=()
for file in "$patches"/7.3/*.patch; do
  own=$patches/$series/$(basename "$file")
  if [ -e "$own" ]; then files+=("$own"); else files+=("$file"); fi
done
key=$({ cat "$here/headers.sh" "$kernels/common.config" "$kernels/liveupdate.config" "${files[@]}"; gcc --version; } | sha256sum | cut -c1-16)
out=$cache/headers-$series-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
mkdir -p "$cache"
exec 9>"$out.lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
command -v apt-get >/dev/null || fail "this machine has no apt to fetch linux-source-$series with"
[ -e $keyring ] || fail "$keyring is missing, so nothing from Debian could be verified"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$' || true)
[ -n "$mirror" ] || fail "apt's configuration names no Debian archive"
rm -rf "$out"
mkdir -p "$out"/{fetch/lists/partial,fetch/cache/archives/partial,tree,build}
echo "deb [signed-by=$keyring] $mirror $suite main" >"$out/fetch/sources.list"
private=(-o "Dir::Etc::sourcelist=$out/fetch/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::Lists=$out/fetch/lists" -o "Dir::Cache=$out/fetch/cache" -o "APT::Architectures=$(dpkg --print-architecture)"
  # As root, apt would download as another user, who cannot write here.
  -o APT::Sandbox::User=root -qq)
echo "lab: fetching linux-source-$series of $suite (once; kept in the cache) ..." >&2
apt-get "${private[@]}" update >&2
(cd "$out/fetch" && apt-get "${private[@]}" download "linux-source-$series" >&2) || fail "apt fetched no linux-source-$series from $suite"
dpkg-deb --fsys-tarfile "$out"/fetch/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" | tar -xJ -C "$out/tree" --strip-components=1
rm -rf "$out/fetch"
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
touch "$out/complete"
echo "$out"
