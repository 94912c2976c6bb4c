#!/usr/bin/env bash
# Makes the product's images, and says beside them what is in each binary:
#
#   target/images/liveupdate-controller.tar    an archive in the OCI layout: one static binary, not root
#   target/images/liveupdate-agent.tar         the same: agent, keeper, and the shim of the next kernel's initrd
#   target/images/BINARY.cdx.json              a bill of materials for each binary (CycloneDX)
#   target/images/digests                      the digest of each image's manifest
#
#   scripts/images.sh            make them
#   scripts/images.sh --check    then make them once more, of a copy of the sources elsewhere, and see that every
#                                byte is the same
#   scripts/images.sh --of BINARIES FOLDER
#                                make them in another folder, of binaries that somebody else has built
#
# The time in them is the commit's. Load one into containerd by
# `ctr -n k8s.io images import --base-name NAME ARCHIVE`; push one by `skopeo copy oci-archive:ARCHIVE docker://…`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
scripts/setup.sh
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
LABELS="org.opencontainers.image.version=$version
org.opencontainers.image.revision=$(git rev-parse HEAD)
org.opencontainers.image.licenses=Apache-2.0"
export LABELS
packages=(liveupdate-controller liveupdate-agent liveupdate-keeper liveupdate-shim)

pack_images() { # sources, binaries, where to
  local package
  rm -rf "$3.partial"
  mkdir -p "$3.partial"
  # By number: there is no /etc/passwd.
  scripts/oci-image.sh "$3.partial/liveupdate-controller.tar" "$version" 65532:65532 liveupdate-controller \
    "$2/liveupdate-controller" -- /liveupdate-controller
  scripts/oci-image.sh "$3.partial/liveupdate-agent.tar" "$version" 0:0 liveupdate-agent \
    "$2/liveupdate-agent" "$2/liveupdate-keeper" "$2/liveupdate-init" -- /liveupdate-agent
  for package in "${packages[@]}"; do
    "$1/scripts/sbom.sh" "$package" "$version" >"$3.partial/$package.cdx.json"
  done
  (cd "$3.partial" && for archive in *.tar; do
    printf '%s %s\n' "${archive%.tar}" "$(tar -xOf "$archive" index.json | grep -o 'sha256:[0-9a-f]*')"
  done >digests)
  rm -rf "$3"
  mv "$3.partial" "$3"
}

make_images() { # sources, target folder of cargo, where to
  local bin
  bin=$("$1/scripts/static-binaries.sh" "$2" "${packages[@]}")
  pack_images "$1" "$bin" "$3"
}

if [ "${1:-}" = --of ]; then
  pack_images "$root" "$2" "$3"
  exit
fi

# Built in one go, one package's wishes for a crate would hold for all: no bill of its own would be true then.
trees() { cargo tree --locked --target x86_64-unknown-linux-gnu -e normal,no-proc-macro --no-dedupe --prefix none "$@" | grep . | LC_ALL=C sort -u; }
all=()
for package in "${packages[@]}"; do all+=(-p "$package"); done
if ! diff <(trees "${all[@]}") <(for package in "${packages[@]}"; do trees -p "$package"; done | LC_ALL=C sort -u) >&2; then
  echo "images: built together, the binaries have other crates than each by itself; build them one by one" >&2
  exit 1
fi

make_images "$root" "$root/target/static" "$root/target/images"
cat target/images/digests
if [ "${1:-}" = --check ]; then
  again=$root/target/images-again
  rm -rf "$again"
  mkdir -p "$again/sources"
  # What is there now, committed or not.
  git ls-files -z --cached --others --exclude-standard | tar --null -c -T - | tar -x -C "$again/sources"
  make_images "$again/sources" "$again/target" "$again/images"
  diff -r target/images "$again/images" || { echo "images: made twice, they are not the same" >&2; exit 1; }
  rm -rf "$again"
  echo "images: made twice, each byte is the same"
fi
