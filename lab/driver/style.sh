#!/usr/bin/env bash
# checkpatch.pl --strict, of the source that the lab's kernels are built from, on the driver and on the kernel's patches.
# What it says has to be mended, or to stand in kmod/checkpatch.allow with a reason. Prints how many files it looked at.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$(cd "$here/../../kmod" && pwd)
fail() { echo "lab: $1" >&2; exit 1; }

source=$("$here/../kernels/source.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# It exits with 1 when it has something to say. Elsewhere than here: in a repository it takes patches for files, and asks
# git for more than it is to know.
remarks() {
  (cd "$work" && GIT_DIR=$work/none perl "$source/scripts/checkpatch.pl" --strict --terse --show-types --root="$source" "$@") \
    >"$work/said" 2>"$work/errors" || true
  [ ! -s "$work/errors" ] || { cat "$work/errors" >&2; fail "checkpatch.pl could not run on ${!#}"; }
}
# It would say something.
printf '// SPDX-License-Identifier: GPL-2.0\nint wrong ;\n' >"$work/wrong.c"
remarks --file wrong.c
grep -q SPACING "$work/said" || fail "checkpatch.pl does not notice a space before a semicolon"

cd "$driver"
grep -v '^#' checkpatch.allow >"$work/allowed"
: >"$work/used"
files=0
bad=0
for file in ./*.[ch] include/*.h patches/*/*.patch; do
  file=${file#./}
  files=$((files + 1))
  # Elsewhere: in a repository it takes patches for files, and asks git for more than it is to know.
  mkdir -p "$work/$(dirname "$file")"
  cp "$file" "$work/$file"
  mode=(--file)
  [[ $file != *.patch ]] || mode=()
  remarks "${mode[@]}" "$file"
  while IFS= read -r line; do
    [[ $line =~ :\ (ERROR|WARNING|CHECK):([A-Z_0-9]+): ]] || continue
    allowed=
    while IFS=$'\t' read -r pattern type reason; do
      # shellcheck disable=SC2053 # The file of the list is a pattern.
      if [ "$type" = "${BASH_REMATCH[2]}" ] && [[ $file == $pattern ]]; then
        [ -n "$reason" ] || fail "checkpatch.allow gives no reason for $pattern $type"
        printf '%s\t%s\n' "$pattern" "$type" >>"$work/used"
        allowed=1
      fi
    done <"$work/allowed"
    [ "$allowed" ] || { echo "$line" >&2; bad=$((bad + 1)); }
  done <"$work/said"
done
while IFS=$'\t' read -r pattern type _; do
  grep -qxF "$(printf '%s\t%s' "$pattern" "$type")" "$work/used" || { echo "checkpatch.allow: of no use any more: $pattern $type" >&2; bad=$((bad + 1)); }
done <"$work/allowed"
[ $bad = 0 ] || fail "checkpatch.pl --strict: $bad remarks that kmod/checkpatch.allow gives no reason for"
[ $files -gt 0 ] || fail "no files"
echo "checkpatch.pl --strict: $files files, $(wc -l <"$work/used") remarks with a written reason, none without"
