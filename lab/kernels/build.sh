#!/usr/bin/env bash
# Builds the lab's kernels into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/<variant>/{bzImage,config,release,root/lib/modules/<release>/…,build/}
#
# Modules of one's own for that kernel: `make -C SOURCE O=<folder>/<variant>/build M=…`, where SOURCE is the folder that
# build/Makefile includes from (driver.sh does it so).
#
#   lab/kernels/build.sh          build what is missing, print the folder on stdout
#   lab/kernels/build.sh --path   print the folder only; exit 1 when it is not built yet
#   lab/kernels/build.sh --driver [--path]   the same of those of with-driver/, which have the driver (kmod/) built in
#
# A variant is common.config, its variants/<name>.config (with what that includes) and, if there is one, its
# variants/<name>.patch over the driver's kernel patches (kmod/patches), which all have. Those with the driver stand apart:
# a change of the driver makes them anew, and them alone. All share one object tree, so that only the first takes minutes.
# The folder's name is a hash of everything that defines the kernels: the source, patches, configurations, this script and
# the compiler. Progress goes to stderr. Safe to run twice at once (a lock).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$(cd "$here/../../kmod" && pwd)
patches=$driver/patches/7.3
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/kernels
fail() { echo "lab: $1" >&2; exit 2; }

variants=variants
[ "${1:-}" != --driver ] || { variants=with-driver; shift; }
if [ "${1:-}" = --path ]; then
  command -v gcc >/dev/null || exit 1
  source=$("$here/source.sh" --path) || exit 1
else
  "$here/../../scripts/setup-kernels.sh"
  source=$("$here/source.sh")
fi

# A fetched tree is known by its package's version, one of the user's by the state of its files.
source_id() {
  if [ -z "${LIVEUPDATE_KERNEL_SOURCE:-}" ]; then
    basename "$(dirname "$source")"
  else
    find "$source" -name .git -prune -o -type f -printf '%P %s %T@\n' | sort | sha256sum
  fi
}
identity=$({ source_id; gcc --version; ld --version; cat "$patches"/*.patch; } | sha256sum | cut -c1-16)
with_driver() { [ $variants = with-driver ]; }
driver_sources() { cd "$driver"; tail -n +1 in-tree.sh Kbuild Kconfig ./*.[ch] include/*.h; }
key=$({ echo "$identity"; cd "$here"; cat build.sh ./*.config; tail -n +1 $variants/*; ! with_driver || driver_sources; } | sha256sum | cut -c1-16)
out=$cache/$key
if [ "${1:-}" = --path ]; then
  echo "$out"
  [ -e "$out/complete" ]
  exit
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

# Sources to patch and objects, shared by all sets of configurations over the same source and compiler.
tree=$cache/trees/$identity
mkdir -p "$out" "$tree"
exec 9>"$tree.lock"
if ! flock -n 9; then
  echo "lab: another process builds kernels; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

apply() { (cd "$tree/src" && patch --quiet --force --no-backup-if-mismatch --reject-file=- "${@:2}" -p1 <"$1" >&2) || fail "$1 does not fit the source $source"; }
# Also what a run that was killed in the middle left, at whatever step that was.
unpatch() {
  local patch=$tree/variant.patch
  [ -e "$patch" ] || return 0
  fits() { (cd "$tree/src" && patch --quiet --dry-run --force --reject-file=- "$@" -p1 <"$patch" >/dev/null); }
  if fits --reverse; then
    apply "$patch" --reverse
  elif ! fits; then
    rm -f "$tree/patched"
  fi
  rm "$patch"
}
unpatch

if [ ! -e "$tree/patched" ]; then
  rm -rf "$tree"/{src,obj}
  # Links cost nothing, and patch writes a new file instead of changing a linked one.
  cp -al "$source" "$tree/src" 2>/dev/null || { rm -rf "$tree/src"; cp -a "$source" "$tree/src"; }
  rm -rf "$tree/src/.git"
  for file in "$patches"/*.patch; do apply "$file"; done
  touch "$tree/patched"
fi
make_kernel() {
  nice -n 10 make -s -C "$tree/src" O="$tree/obj" -j"$(nproc)" LOCALVERSION= DEPMOD=true \
    KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=liveupdate KBUILD_BUILD_TIMESTAMP="Thu Jan 1 00:00:00 UTC 1970" "$@" >&2
}
# The variant's whole configuration, what it includes first.
configuration() { (cd "$here"; cat common.config; sed -n 's/^#include //p' "$1" | xargs -r cat; cat "$1"); }
# Kconfig drops what it does not know or what lacks something it depends on, without a word.
check() {
  local line name bad=()
  while read -r line; do
    case $line in
      CONFIG_*=*) name=${line%%=*}; grep -qxF "$line" "$tree/obj/.config" || bad+=("$line") ;;
      "# CONFIG_"*" is not set") name=${line#\# }; ! grep -q "^${name%% *}=" "$tree/obj/.config" || bad+=("$line") ;;
    esac
  done < <(configuration "$1" | tac | awk -F'[= ]' '{ name = ($1 == "#" ? $2 : $1) } !seen[name]++' )
  [ ${#bad[@]} = 0 ] || fail "$1: without effect in this kernel: ${bad[*]}"
}

build() {
  local name=$1 config=$variants/$1.config patch=$here/$variants/$1.patch begun=$SECONDS partial=$out/$1.partial
  echo "lab: building kernel $name (once; kept in the cache) ..." >&2
  if with_driver; then
    patch=$tree/driver.patch
    "$driver/in-tree.sh" "$tree/src" >"$patch"
  fi
  if [ -e "$patch" ]; then
    apply "$patch" --dry-run
    cp "$patch" "$tree/variant.patch"
    apply "$tree/variant.patch"
  fi
  configuration "$config" >"$tree/wanted"
  mkdir -p "$tree/obj"
  make_kernel KCONFIG_ALLCONFIG="$tree/wanted" allnoconfig
  check "$config"
  make_kernel bzImage modules
  rm -rf "$partial"
  mkdir -p "$partial/root"
  make_kernel INSTALL_MOD_PATH="$partial/root" INSTALL_MOD_STRIP=1 modules_install
  (cd "$partial/root" && rm -f lib/modules/*/build)
  mkdir "$partial/build"
  # What Kbuild reads for a module outside the tree; the object tree itself goes on to the next variant.
  (cd "$tree/obj" && tar -c --exclude='*.o' --exclude='*.cmd' .config Makefile Module.symvers include arch/x86/include scripts tools/objtool/objtool) |
    tar -x -C "$partial/build"
  cp "$tree/obj/arch/x86/boot/bzImage" "$partial/bzImage"
  cp "$tree/obj/.config" "$partial/config"
  cp "$tree/obj/include/config/kernel.release" "$partial/release"
  mv "$partial" "$out/$name"
  unpatch
  echo "lab: built kernel $(cat "$out/$name/release") in $((SECONDS - begun)) s" >&2
}
for variant in "$here/$variants"/*.config; do
  name=$(basename "$variant" .config)
  [ -e "$out/$name" ] || build "$name"
done
touch "$out/complete"
echo "$out"
