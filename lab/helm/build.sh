#!/usr/bin/env bash
# Builds Helm from its Go module into the cache, once per set of inputs, and prints the folder.
#
# The folder's name is a hash of what defines the binary: this script (which names the version; what that
# version requires is fixed by its own go.mod and go.sum) and the Go version. Progress goes to stderr. Safe to
# run twice at once (a lock). Apart from lab/tools: another Helm must not build the control plane anew.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/helm
# The newest of the fourth major version when the chart was written.
version=v4.3.1

command -v go >/dev/null || { echo "lab: Go is not installed; the README names the version that the lab needs" >&2; exit 2; }
key=$({ go env GOVERSION GOARCH; cat "$here/build.sh"; } | sha256sum | cut -c1-16)
out=$cache/$key
[ -e "$out/helm" ] && { echo "$out"; exit 0; }

mkdir -p "$out"
exec 9>"$cache/$key.lock"
if ! flock -n 9; then
  echo "lab: another process builds Helm; waiting for it" >&2
  flock 9
fi
[ -e "$out/helm" ] && { echo "$out"; exit 0; }

started=$SECONDS
echo "lab: building helm (once; kept in the cache) ..." >&2
mkdir -p "$out/partial"
CGO_ENABLED=0 GOBIN=$out/partial go install -trimpath -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$version" >&2
mv "$out/partial/helm" "$out/helm"
rmdir "$out/partial"
echo "lab: built helm in $((SECONDS - started)) s" >&2
echo "$out"
