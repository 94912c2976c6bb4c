#!/usr/bin/env bash
# Installs what the lab's kernels and guests need: a kernel's build tools and QEMU with its firmware. Does
# nothing where nothing is missing; never touches what is already there.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
# A file that a package brings and that no command stands for.
need_file() { local file; for file in "${@:2}"; do if [ -e "$file" ]; then return; fi; done; missing+=("$1"); }
need gcc gcc
need make make
need flex flex
need bison bison
need bc bc
need cpio cpio
need zstd zstd
need xz xz-utils
need lz4 lz4
need patch patch
need perl perl
need sparse sparse
need flock util-linux
need qemu-system-x86_64 qemu-system-x86
# Not on everybody's PATH.
need_file e2fsprogs /usr/sbin/mkfs.ext4 /sbin/mkfs.ext4
need_file libelf-dev /usr/include/libelf.h
need_file libssl-dev /usr/include/openssl/opensslv.h
need_file seabios /usr/share/seabios/bios-256k.bin /usr/share/qemu/bios-256k.bin
# QEMU loads the option ROM of every network card that it is given.
need_file ipxe-qemu /usr/lib/ipxe/qemu/efi-virtio.rom /usr/share/qemu/efi-virtio.rom
# The guest with systemd, which boots from its disk by firmware.
need mmdebstrap mmdebstrap
[ "$(id -u)" = 0 ] || need fakeroot fakeroot
need mcopy mtools
need_file fdisk /usr/sbin/sfdisk /sbin/sfdisk
need_file ovmf /usr/share/OVMF/OVMF_CODE_4M.fd
need_file systemd-boot-efi /usr/lib/systemd/boot/efi/systemd-bootx64.efi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: install these with your package manager, then run this again: ${missing[*]}" >&2
  exit 1
fi
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
echo "setup: installing ${missing[*]}" >&2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
