# Debian's archive for scripts that source this: packages of one suite, from the mirror that this machine's own apt uses,
# through apt lists of our own; the system's are left alone. They say `fail` and `own`, what to do without.
#
#   archive_newest, archive_turn   what was fetched before, and who fetches now
#   archive_open SUITE FOLDER   from here on `archive` is apt-get and `archive_cache` apt-cache for that suite alone
archive_open() {
  local suite=$1 folder=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  command -v apt-get >/dev/null || fail "this machine has no apt; $own"
  [ -e $keyring ] || fail "$keyring is missing, so nothing from Debian could be verified; $own"
  # The archive's address is the machine's own business: its mirror, its proxy.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$' || true)
  [ -n "$mirror" ] || fail "apt's configuration names no Debian archive; $own"
  rm -rf "$folder"
  mkdir -p "$folder"/{lists/partial,cache/archives/partial}
  echo "deb [signed-by=$keyring] $mirror $suite main" >"$folder/sources.list"
  archive_private=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache"
    -o "APT::Architectures=${archive_architecture:-$(dpkg --print-architecture)}"
    # As root, apt would download as another user, who cannot write here.
    -o APT::Sandbox::User=root -qq)
  archive update >&2
}
# The newest folder under $1 that was fetched whole, among those called like $2; nothing when there is none.
archive_newest() { { find "$1" -mindepth 2 -maxdepth 2 -path "$1/$2/complete" -printf '%h\n' 2>/dev/null || true; } | sort -V | tail -1; }
# From here on nobody else fetches into folder $1; $2 says what.
archive_turn() {
  mkdir -p "$1"
  exec 8>"$1/lock"
  flock -n 8 && return
  echo "lab: another process fetches $2; waiting for it" >&2
  flock 8
}
archive() { apt-get "${archive_private[@]}" "$@"; }
archive_cache() { apt-cache "${archive_private[@]}" "$@"; }
