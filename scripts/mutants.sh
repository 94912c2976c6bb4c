#!/usr/bin/env bash
# Breaks the code in known ways and sees that the tests notice each: mutants/*.patch (mutants/README.md).
# Works on a copy of HEAD under target/mutants, with a build folder of its own that is kept, so that only
# what a patch touches is built again. The work tree is not touched.
#   scripts/mutants.sh            every patch
#   scripts/mutants.sh NAME...    those whose names contain one of the words
#   scripts/mutants.sh --check    only: does every patch still apply, and is its header whole?
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
home=$root/target/mutants
tree=$home/tree
# A test that hangs has not noticed anything; building is not part of it.
limit=${MUTANTS_TIMEOUT:-600}
export CARGO_TARGET_DIR=$home/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_COLOR=never

die() { printf 'mutants: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }
field() { sed -n '/^diff --git/q; s/^'"$1"': //p' "$2" | head -n 1; }

check_only=
words=()
for argument in "$@"; do
  case $argument in
    --check) check_only=1 ;;
    -*) die "unknown option $argument; see the head of scripts/mutants.sh" ;;
    *) words+=("$argument") ;;
  esac
done

patches=()
for patch in "$root"/mutants/*.patch; do
  [ -e "$patch" ] || die "there are no patches in mutants/"
  [ ${#words[@]} -gt 0 ] || { patches+=("$patch"); continue; }
  for word in "${words[@]}"; do
    if [[ $(basename "$patch" .patch) == *"$word"* ]]; then patches+=("$patch"); break; fi
  done
done
[ ${#patches[@]} -gt 0 ] || die "no patch has a name with: ${words[*]}"

# The header is whole, the command is a plain cargo test of one crate, and the patch applies to $1.
check() {
  local where=$1 bad=0 patch name why catch
  for patch in "${patches[@]}"; do
    name=$(basename "$patch")
    for need in Breaks Invariant Catch; do
      [ -n "$(field "$need" "$patch")" ] || { say "$name: the line \"$need: …\" is missing above the diff"; bad=1; }
    done
    catch=$(field Catch "$patch")
    [[ $catch =~ ^cargo\ test\ -p\ [a-z-]+\ (--lib|--test\ [a-z_]+)(\ [a-z0-9_:]+)?$ ]] ||
      { say "$name: \"Catch:\" must read: cargo test -p CRATE --lib|--test FILE [FILTER]"; bad=1; }
    if ! why=$(cd "$where" && GIT_CEILING_DIRECTORIES=$home git apply --check "$patch" 2>&1); then
      say "$name does not apply any more:"
      say "$why"
      say "  refresh it: break the code again by hand as its header says, then"
      say "  (sed '/^diff --git/,\$d' mutants/$name; git diff -- FILE) > /tmp/$name && git checkout -- FILE && mv /tmp/$name mutants/"
      bad=1
    fi
  done
  return $bad
}

if [ -n "$check_only" ]; then
  check "$root" || exit 1
  say "mutants: all ${#patches[@]} patches apply"
  exit 0
fi

command -v timeout >/dev/null || die "timeout (coreutils) is missing"
mkdir -p "$home"
exec 9>"$home/lock"
flock -n 9 || die "another run works in target/mutants; wait for it"

# What differs from HEAD gets a new time, so that cargo builds exactly that again; the rest keeps its own.
fresh=$home/fresh
rm -rf "$fresh"
mkdir -p "$fresh" "$tree"
git archive HEAD | tar -x -C "$fresh"
git diff --quiet HEAD -- || say "mutants: what is not committed takes no part"
# Links are copied as such: fixtures of /sys are full of them, and many lead nowhere.
(cd "$tree" && find . -type f -o -type l) | while IFS= read -r file; do
  [ -e "$fresh/$file" ] || [ -L "$fresh/$file" ] || rm -f "$tree/$file"
done
(cd "$fresh" && find . -type l) | while IFS= read -r file; do
  mkdir -p "$tree/$(dirname "$file")"
  cp -P --remove-destination "$fresh/$file" "$tree/$file"
done
(cd "$fresh" && find . -type f) | while IFS= read -r file; do
  cmp -s "$fresh/$file" "$tree/$file" && continue
  mkdir -p "$tree/$(dirname "$file")"
  cp "$fresh/$file" "$tree/$file"
  touch "$tree/$file"
done
check "$fresh" || exit 1
rm -rf "$fresh"
# What was checked is what is applied, whatever is edited meanwhile.
rm -rf "$home/patches"
mkdir "$home/patches"
cp "${patches[@]}" "$home/patches/"
patches=("${patches[@]/#*\//$home/patches/}")

log=$home/log
# Builds, then runs: sets `built`, `status`, `passed`, `caught` (names of tests that failed).
try() {
  built=0 status=0 passed=0 caught=
  # shellcheck disable=SC2086 # the command was checked above: plain words
  (cd "$tree" && $1 --locked --quiet --no-run) >"$log" 2>&1 9>&- || return 0
  built=1
  # shellcheck disable=SC2086
  (cd "$tree" && timeout --kill-after=10 "$limit" $1 --locked --quiet) >"$log" 2>&1 9>&- || status=$?
  passed=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) n += $i } END { print n + 0 }' "$log")
  caught=$(sed -n 's/^---- \(.*\) stdout ----$/\1/p' "$log" | sort -u | paste -sd, - | sed 's/,/, /g')
}

say "mutants: the unmutated tree first; it must be green"
declare -A seen=()
for patch in "${patches[@]}"; do
  catch=$(field Catch "$patch")
  [ -z "${seen[$catch]:-}" ] || continue
  seen[$catch]=1
  started=$SECONDS
  try "$catch"
  if [ $built = 0 ] || [ $status != 0 ]; then
    cat "$log" >&2
    die "not green without any mutation: $catch"
  fi
  [ "$passed" -gt 0 ] || die "no test fits: $catch (wanted by $(basename "$patch"))"
  say "  green, $passed tests, $((SECONDS - started)) s: $catch"
done

rows=()
survived=0
number=0
for patch in "${patches[@]}"; do
  number=$((number + 1))
  name=$(basename "$patch" .patch)
  started=$SECONDS
  (cd "$tree" && GIT_CEILING_DIRECTORIES=$home git apply "$patch")
  try "$(field Catch "$patch")"
  (cd "$tree" && GIT_CEILING_DIRECTORIES=$home git apply --reverse "$patch")
  took=$((SECONDS - started))
  if [ $built = 0 ]; then
    verdict="DOES NOT BUILD: that proves nothing; write the mutation so that it builds"
  elif [ $status = 124 ] || [ $status = 137 ]; then
    verdict="HUNG for $limit s: no test said what is wrong"
  elif [ $status = 0 ]; then
    verdict="SURVIVED: the tests lack something"
  elif [ -z "$caught" ]; then
    verdict="FAILED without a failed test"
  else
    verdict=
  fi
  if [ -n "$verdict" ]; then
    survived=$((survived + 1))
    cp "$log" "$home/$name.log"
    verdict="$verdict (target/mutants/$name.log)"
  else
    verdict=$caught
  fi
  rows+=("$name"$'\t'"$took"$'\t'"$verdict")
  say "  $number of ${#patches[@]}, $took s: $name: ${verdict}"
done

printf '\n%-40s %4s  %s\n' MUTATION s 'CAUGHT BY'
for row in "${rows[@]}"; do
  IFS=$'\t' read -r name took verdict <<<"$row"
  [ ${#verdict} -le 110 ] || [[ $verdict == *target/mutants/* ]] || verdict="${verdict:0:107}..."
  printf '%-40s %4s  %s\n' "$name" "$took" "$verdict"
done
printf '\n%d mutations, %d caught, %d survived, %d s\n' ${#rows[@]} $((${#rows[@]} - survived)) $survived $SECONDS
[ $survived = 0 ]
