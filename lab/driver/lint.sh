#!/usr/bin/env bash
# Compiles the driver with all that the compiler (W=1) and sparse have to say, and fails on anything that they say of the
# driver's own files. What the kernel's headers bring along is the kernel's. Prints what it compiled against.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$(cd "$here/../../kmod" && pwd)
fail() { echo "lab: $1" >&2; exit 1; }
command -v sparse >/dev/null || fail "sparse is missing; install the package sparse"

kernels=$("$here/../kernels/build.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Compiles all of it, says what was said of its own files, and how many files sparse read.
compile() {
  local kernel=$1 tree
  tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kernel/build/Makefile")
  rm -rf "$work/driver"
  mkdir "$work/driver"
  (cd "$driver" && cp --parents -t "$work/driver" Kbuild ./*.[ch] include/*.h)
  [ -z "${2:-}" ] || (cd "$work/driver" && eval "$2")
  # What a kernel exports is known only of one that was built whole; here it is about the compiler.
  nice -n 10 make -C "$tree" O="$kernel/build" M="$work/driver" KBUILD_MODPOST_WARN=1 W=1 C=2 CHECK="$here/sparse.sh" modules >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "the driver does not compile for $(cat "$kernel/release")"; }
  # Relative or not, a file of the driver is named as such; a header that cannot be parsed makes the file useless.
  grep -E "(^|[ /])($(cd "$driver" && ls ./*.[ch] include/*.h | sed 's|^\./||; s|\.|\\.|g' | paste -sd'|')):[0-9]+" "$work/log" >"$work/own" || true
  grep -E ': error: ' "$work/log" >>"$work/own" || true
  read=$(grep -c '^ *CHECK ' "$work/log" || true)
}
sources=$(find "$driver" -maxdepth 1 -name '*.c' | wc -l)
older=$("$here/headers.sh" 7.2)
# As for a kernel with upstream's PCI live update, which the driver then uses: against that API alone.
export stand_in=$here/pci_liveupdate.h
compile "$kernels/lu1" 'mkdir include/linux && cp "$stand_in" include/linux/'
[ ! -s "$work/own" ] || { cat "$work/own" >&2; fail "$(wc -l <"$work/own") remarks on the driver's own files with upstream's PCI live update"; }
nm "$work/driver/vfio_pci_liveupdate.o" >"$work/symbols"
grep -q ' U pci_liveupdate_preserve$' "$work/symbols" || fail "the driver does not use upstream's PCI live update where it is"
! grep -q pci_keep_bus_master "$work/symbols" || fail "the driver needs our patch where upstream's PCI live update is"
echo "W=1 and sparse: $sources files against upstream's PCI live update (a stand-in, compiled only), nothing said of them"
for kernel in "$kernels/lu1" "$older"; do
  compile "$kernel"
  [ ! -s "$work/own" ] || { cat "$work/own" >&2; fail "$(wc -l <"$work/own") remarks on the driver's own files"; }
  [ "$read" = "$sources" ] || { cat "$work/log" >&2; fail "sparse read $read of the driver's $sources files"; }
  # Both would say something: an address of a device used as one of memory, and a function that nobody declared.
  compile "$kernel" 'printf "u32 lu_wrong(void __iomem *at)\n{\n\treturn *(u32 *)at;\n}\n" >>evidence.c'
  grep -q 'evidence.c:.*removes address space' "$work/own" || fail "sparse does not notice a use of device memory as memory"
  grep -q 'evidence.c:.*no previous prototype' "$work/own" || fail "the compiler does not notice a function without a prototype"
  echo "W=1 and sparse: $sources files for $(cat "$kernel/release"), nothing said of them"
done
