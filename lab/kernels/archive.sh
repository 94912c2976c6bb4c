# Debian's archive for scripts that source this: packages of one suite, from the mirror that this machine's own apt uses,
# through apt lists of our own; the system's are left alone. They say `fail` and `own`, what to do without.
#
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
archive() { apt-get "${archive_private[@]}" "$@"; }
archive_cache() { apt-cache "${archive_private[@]}" "$@"; }
