# To be sourced by what builds something once per set of inputs, into a folder of the cache.
# shellcheck shell=bash disable=SC2034
cache=${LIVEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/liveupdate}/driver

# once NAME: $out is the folder of that name, in which the key of all inputs is. Where it is complete it is printed, and
# the script over; whoever comes back from here builds it alone.
once() {
  out=$cache/$1
  print_complete
  mkdir -p "$out"
  exec 9>"$out.lock"
  flock 9
  print_complete
}

print_complete() {
  if [ -e "$out/complete" ]; then
    echo "$out"
    exit 0
  fi
}

# Says that it is whole now, and prints it.
complete() {
  touch "$out/complete"
  echo "$out"
}
