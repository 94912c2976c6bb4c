#!/usr/bin/env bash
# Makes an image from scratch as an archive in the OCI layout, the same bytes each time. No daemon runs, and nobody
# has to be root.
#
#   scripts/oci-image.sh ARCHIVE TAG USER TITLE FILE... -- ENTRYPOINT...
#
# Each FILE lies in the image's root folder, readable and executable for everybody. SOURCE_DATE_EPOCH is the time of
# all that has one; LABELS may have further labels, NAME=VALUE, one a line.
set -euo pipefail
archive=$1 tag=$2 user=$3 title=$4
shift 4
files=()
while [ "$1" != -- ]; do files+=("$1"); shift; done
shift
: "${SOURCE_DATE_EPOCH:?}"
created=$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }

mkdir "$work/root"
install -m 0755 -t "$work/root" "${files[@]}"
# Their folder itself is none of the layer: what an image has at / is the runtime's to make.
(cd "$work/root" && pack -cf "$work/layer.tar" -- *)
image=$work/image:$tag
umoci init --layout "$work/image"
umoci new --image "$image"
umoci raw add-layer --history.created "$created" --history.created_by "$title" --image "$image" "$work/layer.tar"
config=(--config.user "$user" --created "$created" --architecture amd64 --os linux --no-history)
for word in "$@"; do config+=(--config.entrypoint "$word"); done
while IFS= read -r label; do
  [ -z "$label" ] || config+=(--config.label "$label")
done <<<"org.opencontainers.image.title=$title
org.opencontainers.image.created=$created
${LABELS:-}"
umoci config --image "$image" "${config[@]}"
umoci gc --layout "$work/image" >/dev/null
mkdir -p "$(dirname "$archive")"
(cd "$work/image" && pack -cf "$work/archive" -- *)
mv "$work/archive" "$archive"
