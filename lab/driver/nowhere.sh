#!/usr/bin/env bash
# Builds nowhere.c, linked statically, into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/nowhere
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver
key=$(cat "$here/nowhere.sh" "$here/nowhere.c" | sha256sum | cut -c1-16)
out=$cache/nowhere-$key
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
mkdir -p "$out"
exec 9>"$out.lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
gcc -static -O2 -Wall -Wextra -Werror -o "$out/nowhere" "$here/nowhere.c" >&2
touch "$out/complete"
echo "$out"
