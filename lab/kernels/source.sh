#!/usr/bin/env bash
# Finds the kernel source that the lab builds from, or fetches it once, and prints its folder.
#
#   lab/kernels/source.sh          print the folder, fetch what is missing
#   lab/kernels/source.sh --path   print the folder only; exit 1 when there is none yet
#   lab/kernels/source.sh --series 7.2   of another series, always from the archive
#
# LIVEUPDATE_KERNEL_SOURCE names a source tree of one's own (clean: `make mrproper`); nothing is fetched and
# nothing in it is changed. Otherwise the newest package linux-source-7.3 of Debian's backports is taken from
# the mirror that this machine's own apt uses, through apt lists of our own: the system's are left alone.
# What was fetched once is used again without asking the mirror; remove the folder for a newer one.
set -euo pipefail
default=7.3
suite=trixie-backports
sources=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/kernels/sources
fail() { echo "lab: $1" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/archive.sh"
path= series=$default
while [ $# -gt 0 ]; do
  case $1 in
    --path) path=1 ;;
    --series) series=${2:?--series needs one}; shift ;;
    *) fail "unknown option $1; see the head of $0" ;;
  esac
  shift
done

if [ -n "${LIVEUPDATE_KERNEL_SOURCE:-}" ] && [ "$series" = $default ]; then
  [ -e "$LIVEUPDATE_KERNEL_SOURCE/Kbuild" ] || fail "LIVEUPDATE_KERNEL_SOURCE=$LIVEUPDATE_KERNEL_SOURCE is no kernel source tree"
  [ ! -e "$LIVEUPDATE_KERNEL_SOURCE/.config" ] || fail "$LIVEUPDATE_KERNEL_SOURCE was built in; run \`make mrproper\` there first"
  (cd "$LIVEUPDATE_KERNEL_SOURCE" && pwd -P)
  exit
fi
found=$(archive_newest "$sources" "$series.*")
if [ -n "$found" ]; then echo "$found/tree"; exit; fi
[ -z "$path" ] || exit 1

archive_turn "$sources" "the kernel source"
found=$(archive_newest "$sources" "$series.*")
if [ -n "$found" ]; then echo "$found/tree"; exit; fi

own="set LIVEUPDATE_KERNEL_SOURCE to a tree of Linux $default"
[ "$series" = $default ] || own="Linux $series is taken from there alone"
work=$sources/fetch
echo "lab: fetching linux-source-$series of $suite (once; kept in the cache) ..." >&2
begun=$SECONDS
archive_open $suite "$work"
(cd "$work" && archive download "linux-source-$series" >&2)
package=$(find "$work" -maxdepth 1 -name 'linux-source-*.deb' | head -1)
[ -n "$package" ] || fail "apt fetched no linux-source-$series from $suite; $own"
version=$(dpkg-deb --field "$package" Version)
folder=$sources/$(tr -c 'A-Za-z0-9.+~\n-' _ <<<"$version")
rm -rf "$folder"
mkdir -p "$folder/tree"
dpkg-deb --fsys-tarfile "$package" | tar -xO "./usr/src/linux-source-$series.tar.xz" | tar -xJ -C "$folder/tree" --strip-components=1
rm -rf "$work"
touch "$folder/complete"
echo "lab: fetched $version in $((SECONDS - begun)) s" >&2
echo "$folder/tree"
