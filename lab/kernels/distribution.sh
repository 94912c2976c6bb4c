#!/usr/bin/env bash
# Fetches a distribution's own kernel that nobody here built or boots, once, and prints its folder:
#
#   <folder>/image     the kernel of Debian's backports for x86_64 machines of clouds, newer than live update itself
#   <folder>/config    what it was configured with, by its own packages
#
#   lab/kernels/distribution.sh          print the folder, fetch what is missing
#   lab/kernels/distribution.sh --path   print the folder only; exit 1 when there is none yet
#
# What was fetched once is used again without asking the mirror; remove the folder for a newer one.
set -euo pipefail
suite=trixie-backports
newest=linux-image-cloud-amd64
kernels=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/kernels/distribution
own="there is no other source of it"
fail() { echo "lab: $1" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/archive.sh"
# Of guests, whatever this machine is.
archive_architecture=amd64

folder=$(archive_newest "$kernels" '*')
if [ -n "$folder" ]; then echo "$folder"; exit; fi
[ "${1:-}" != --path ] || exit 1

archive_turn "$kernels" "the distribution's kernel"
folder=$(archive_newest "$kernels" '*')
if [ -n "$folder" ]; then echo "$folder"; exit; fi

echo "lab: fetching $newest of $suite (once; kept in the cache) ..." >&2
begun=$SECONDS
work=$kernels/fetch
archive_open $suite "$work"
release=$(archive_cache depends $newest | sed -n 's/^ *Depends: linux-image-\([0-9].*\)/\1/p' | head -1)
[ -n "$release" ] || fail "$newest of $suite depends on no kernel"
# Image and configuration are in packages of their own since 7.3.
packages=()
for part in image binary base; do
  if archive_cache show "linux-$part-$release" >/dev/null 2>&1; then packages+=("linux-$part-$release"); fi
done
(cd "$work" && archive download "${packages[@]}" >&2)
for package in "$work"/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
folder=$kernels/$release
rm -rf "$folder"
mkdir -p "$folder"
one() { # What is called so or so in one of the packages.
  local file
  file=$(find "$work/root" -type f \( -name "$1" -o -name "$1-$release" \) | head -1)
  [ -n "$file" ] || fail "${packages[*]} of $suite have no $1"
  cp "$file" "$folder/$2"
}
one vmlinuz image
one config config
rm -rf "$work"
touch "$folder/complete"
echo "lab: fetched $release in $((SECONDS - begun)) s" >&2
echo "$folder"
