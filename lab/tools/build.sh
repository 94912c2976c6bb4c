#!/usr/bin/env bash
# Builds the lab's control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
# kubectl) from its Go modules into the cache, once per set of inputs, and prints the folder.
#
#   lab/tools/build.sh          build what is missing, print the folder on stdout
#   lab/tools/build.sh --path   print the folder only; exit 1 when it is not built yet
#
# The folder's name is a hash of everything that defines the binaries: both go.mod and go.sum, this
# script and the Go version. Progress goes to stderr. Safe to run twice at once (a lock).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/control-plane

command -v go >/dev/null || { echo "lab: Go is not installed; the README names the version that the lab needs" >&2; exit 2; }
key=$({ go env GOVERSION GOARCH; cat "$here"/{build.sh,etcd/go.mod,etcd/go.sum,kubernetes/go.mod,kubernetes/go.sum}; } | sha256sum | cut -c1-16)
out=$cache/$key
if [ "${1:-}" = --path ]; then
  echo "$out"
  [ -e "$out/complete" ]
  exit
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

mkdir -p "$out"
exec 9>"$cache/$key.lock"
if ! flock -n 9; then
  echo "lab: another process builds the control plane; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

version=$(sed -n 's/^require k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p; s/^\tk8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$here/kubernetes/go.mod" | head -1)
[ -n "$version" ] || { echo "lab: lab/tools/kubernetes/go.mod requires no k8s.io/kubernetes" >&2; exit 2; }
minor=${version#v1.}
minor=${minor%%.*}
pkg=k8s.io/component-base/version
kube_flags="-s -w -X $pkg.gitVersion=$version -X $pkg.gitMajor=1 -X $pkg.gitMinor=$minor"

build() { # module binary package ldflags
  [ -e "$out/$2" ] && return
  local started=$SECONDS
  echo "lab: building $2 (once; kept in the cache) ..." >&2
  (cd "$here/$1" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags "$4" -o "$out/$2.partial" "$3" >&2)
  mv "$out/$2.partial" "$out/$2"
  echo "lab: built $2 in $((SECONDS - started)) s" >&2
}
build etcd etcd go.etcd.io/etcd/server/v3 "-s -w"
for binary in kube-apiserver kubectl kube-controller-manager kube-scheduler; do
  build kubernetes $binary k8s.io/kubernetes/cmd/$binary "$kube_flags"
done
touch "$out/complete"
echo "$out"
