#!/usr/bin/env bash
# Says in CycloneDX what is in the static binary of a package of the workspace: every crate that is linked in, with
# its version, license and the digest that Cargo.lock has of it, and what comes with the compiler.
#
#   scripts/sbom.sh PACKAGE VERSION      SOURCE_DATE_EPOCH is its time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=$1 version=$2
: "${SOURCE_DATE_EPOCH:?}"
# Macros run in the compiler, build scripts before it: neither is in a binary.
cargo tree --locked --target x86_64-unknown-linux-gnu -e normal,no-proc-macro --no-dedupe --prefix none \
  --format $'{p}\t{l}' -p "$name" | LC_ALL=C sort -u | awk -F'\t' \
  -v name="$name" -v version="$version" -v time="$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
  -v rust="$(rustc --version | cut -d' ' -f2)" -v libc="$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" '
  function component(kind, name, version, purl, license, digest) {
    printf "%s\n    {\"type\": \"%s\", \"bom-ref\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"%s\", " \
      "\"licenses\": [{\"expression\": \"%s\"}]", first ? "," : "", kind, purl, name, version, purl, license
    if (digest != "") printf ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]", digest
    printf "}"
    first = 1
  }
  # Cargo.lock first.
  FNR == NR {
    if ($0 ~ /^name = /) { split($0, part, "\""); crate = part[2] }
    if ($0 ~ /^version = /) { split($0, part, "\""); number = part[2] }
    if ($0 ~ /^checksum = /) { split($0, part, "\""); digests[crate " " number] = part[2] }
    next
  }
  BEGIN {
    printf "{\n  \"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.6\", \"version\": 1,\n"
    printf "  \"metadata\": {\"timestamp\": \"%s\", \"component\": {\"type\": \"application\", \"name\": \"%s\", \"version\": \"%s\"}},\n", time, name, version
    printf "  \"components\": ["
    component("library", "rust-std", rust, "pkg:generic/rust-std@" rust, "MIT OR Apache-2.0", "")
    component("library", "glibc", libc, "pkg:generic/glibc@" libc, "LGPL-2.1-or-later", "")
  }
  NF == 2 {
    split($1, word, " ")
    number = substr(word[2], 2)
    license = $2
    # The old way to say OR.
    gsub(/ *\/ */, " OR ", license)
    component("library", word[1], number, "pkg:cargo/" word[1] "@" number, license, digests[word[1] " " number])
  }
  END { printf "\n  ]\n}\n" }
' Cargo.lock -
