#!/usr/bin/env bash
# Builds the root of the lab's guest with systemd into the cache, once per set of inputs, and prints its folder:
#
#   <folder>/root.ext4                        a file system made of a distribution's own packages; nothing is mounted
#   <folder>/stock/{linux,initrd}     the distribution's kernel that is among them
#
#   lab/rootfs/build.sh          build what is missing, print the folder on stdout
#   lab/rootfs/build.sh --path   print the folder only; exit 1 when it is not built yet
#
# The folder's name is a hash of what defines it: this script. Versions are those that the archive has when it is
# built; remove the folder for newer ones. Progress goes to stderr. Safe to run twice at once (a lock).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# systemd 254 is the first that keeps files over a restart of its service and says so, which custody asks for.
suite=trixie
# kexec-tools stands for somebody else who loads a kernel, by the old call.
packages=systemd,systemd-sysv,udev,kmod,zstd,kexec-tools,linux-image-cloud-amd64
size=1G
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/rootfs
out=$cache/$(sha256sum "$here/build.sh" | cut -c1-16)
PATH=$PATH:/usr/sbin:/sbin
fail() { echo "lab: $1" >&2; exit 2; }

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
  echo "lab: another process builds the guests' root; waiting for it" >&2
  flock 9
fi
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || fail "$keyring is missing, so nothing from Debian could be verified"
# The archive's address is the machine's own business: its mirror, its proxy.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$' || true)
[ -n "$mirror" ] || fail "apt's configuration names no Debian archive"
echo "lab: making the guests' root of $suite (once; kept in the cache) ..." >&2
begun=$SECONDS
work=$out/work
rm -rf "$work"
mkdir -p "$work/root"
nice -n 10 mmdebstrap --quiet --variant=minbase --include=$packages \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  $suite "$work/root.tar" - >&2 <<<"deb [signed-by=$keyring] $mirror $suite main"
# Nothing has a first boot here: units are enabled by who needs them. What takes long and that a guest has no use
# for is left out, and ends nobody's test.
cat >"$work/finish" <<'END'
set -e
tar -x -C "$1/root" -f "$1/root.tar"
cd "$1/root"
echo 8c5e0b1d0f5a4d0e9e0a3c1b7f6d2a90 >etc/machine-id
echo guest >etc/hostname
printf '%s\n' '/dev/vda2 / ext4 defaults 0 0' '/dev/vda1 /efi vfat defaults 0 0' >etc/fstab
mkdir -p efi
rm -rf var/cache/apt var/lib/apt/lists/*
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  e2scrub_reap.service getty.target systemd-logind.service systemd-update-utmp.service \
  systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-boot-update.service \
  kexec.service kexec-load.service; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
# The distribution's kernel sets no address by itself; who starts it asks for this.
printf '%s\n' '[Match]' 'Name=eth0' '[Network]' 'Address=10.0.2.15/24' 'Gateway=10.0.2.2' >etc/systemd/network/eth0.network
mkdir ../stock
cp boot/vmlinuz-* ../stock/linux
cp boot/initrd.img-* ../stock/initrd
cd ..
mkfs.ext4 -q -E root_owner=0:0 -d root root.ext4 "$2"
END
# What a user who is not root unpacks belongs to root all the same.
as_root=()
[ "$(id -u)" = 0 ] || as_root=(fakeroot)
"${as_root[@]}" bash "$work/finish" "$work" $size >&2
rm -rf "$out/stock"
mv "$work/stock" "$work/root.ext4" "$out/"
rm -rf "$work"
touch "$out/complete"
echo "lab: made the guests' root in $((SECONDS - begun)) s" >&2
echo "$out"
