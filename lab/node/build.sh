#!/usr/bin/env bash
# Builds what makes a guest of the lab a node of Kubernetes into the cache, once per set of inputs, and prints
# its folder:
#
#   <folder>/root.ext4   a file system with systemd, containerd and runc, a distribution's own packages
#   <folder>/kubelet     from its Go module, of the control plane's version
#
#   lab/node/build.sh          build what is missing, print the folder on stdout
#   lab/node/build.sh --path   print the folder only; exit 1 when it is not built yet
#
# The folder's name is a hash of what defines it: this script, the kubelet's go.mod and go.sum, and the Go version.
# Versions of packages are those that the archive has when it is built; remove the folder for newer ones. Progress
# goes to stderr. Safe to run twice at once (a lock).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# The first with a containerd that kubelets go on to speak with (2.x), and with a systemd whose own kexec hands its
# store of files over (262).
suite=forky
packages=systemd,systemd-sysv,udev,dbus,kmod,util-linux,mount,procps,ca-certificates,iproute2,containerd,runc
size=3G
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/node
PATH=$PATH:/usr/sbin:/sbin
fail() { echo "lab: $1" >&2; exit 2; }

command -v go >/dev/null || fail "Go is not installed; the README names the version that the lab needs"
key=$({ go env GOVERSION GOARCH; cat "$here"/{build.sh,kubelet/go.mod,kubelet/go.sum}; } | sha256sum | cut -c1-16)
out=$cache/$key
if [ "${1:-}" = --path ]; then
  echo "$out"
  [ -e "$out/complete" ]
  exit
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
"$here/../../scripts/setup-kernels.sh"
mkdir -p "$out"
exec 9>"$out/lock"
if ! flock -n 9; then
  echo "lab: another process builds the node's root; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

kubelet() {
  local begun=$SECONDS version minor pkg=k8s.io/component-base/version
  version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$here/kubelet/go.mod" | head -1)
  [ -n "$version" ] || fail "lab/node/kubelet/go.mod requires no k8s.io/kubernetes"
  minor=${version#v1.}
  minor=${minor%%.*}
  echo "lab: building kubelet (once; kept in the cache) ..." >&2
  (cd "$here/kubelet" && CGO_ENABLED=0 nice -n 10 go build -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w -X $pkg.gitVersion=$version -X $pkg.gitMajor=1 -X $pkg.gitMinor=$minor" \
    -o "$out/kubelet.partial" k8s.io/kubernetes/cmd/kubelet >&2)
  mv "$out/kubelet.partial" "$out/kubelet"
  echo "lab: built kubelet in $((SECONDS - begun)) s" >&2
}

# What a user who is not root unpacks belongs to root all the same. Nothing has a first boot here: units are enabled
# by who needs them. What takes long and that a node of a test has no use for is left out.
finish='
set -e
tar -x -C "$1/root" -f "$1/root.tar"
cd "$1/root"
echo 5b7f2c90d5d94fd28d6a1f4e0c3ba871 >etc/machine-id
echo node >etc/hostname
printf "%s\n" "/dev/vda2 / ext4 defaults 0 0" >etc/fstab
mkdir -p etc/cni/net.d opt/cni/bin efi
rm -rf var/cache/apt var/lib/apt/lists/*
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  e2scrub_reap.service getty.target systemd-logind.service systemd-update-utmp.service \
  systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-boot-update.service \
  systemd-networkd.service systemd-journal-catalog-update.service; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
cd ..
mkfs.ext4 -q -E root_owner=0:0 -d root root.ext4 "$2"
'
root() {
  local begun=$SECONDS work=$out/work mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg as_root=()
  [ -e $keyring ] || fail "$keyring is missing, so nothing from Debian could be verified"
  # The archive's address is the machine's own business: its mirror, its proxy.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$' || true)
  [ -n "$mirror" ] || fail "apt's configuration names no Debian archive"
  echo "lab: making the node's root of $suite (once; kept in the cache) ..." >&2
  rm -rf "$work"
  mkdir -p "$work/root"
  # A suite in the making is signed for a few days at a time, and mirrors may stand still for longer.
  nice -n 10 mmdebstrap --quiet --variant=minbase --include=$packages --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    $suite "$work/root.tar" - >&2 <<<"deb [signed-by=$keyring] $mirror $suite main"
  [ "$(id -u)" = 0 ] || as_root=(fakeroot)
  "${as_root[@]}" bash -c "$finish" finish "$work" $size >&2
  mv "$work/root.ext4" "$out/"
  rm -rf "$work"
  echo "lab: made the node's root in $((SECONDS - begun)) s" >&2
}
[ -e "$out/root.ext4" ] || root
[ -e "$out/kubelet" ] || kubelet
touch "$out/complete"
echo "$out"
