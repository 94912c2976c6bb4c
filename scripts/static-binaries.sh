#!/usr/bin/env bash
# Builds binaries as they are shipped: optimised, linked statically, without a path of this machine in them. Prints
# their folder.
#
#   scripts/static-binaries.sh TARGET-FOLDER PACKAGE...
set -euo pipefail
# Named even on a machine of this very kind: only then does cargo keep build scripts and macros, which cannot be
# static, apart from what is shipped.
triple=x86_64-unknown-linux-gnu
target=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd -P)
packages=()
for package in "$@"; do packages+=(--package "$package"); done
# These would replace the flags below.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
"${CARGO:-cargo}" build --quiet --locked --bins --release --manifest-path "$root/Cargo.toml" --target $triple \
  --target-dir "$target" "${packages[@]}" --config "target.$triple.rustflags=['-Ctarget-feature=+crt-static', \
    '--remap-path-prefix=$root=/liveupdate', '--remap-path-prefix=$cargo_home=/cargo']" </dev/null >&2
echo "$target/$triple/release"
