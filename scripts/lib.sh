# Shared by the scripts beside it; sourced, not run.

# The top of the repository, whatever the caller's directory.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '==> %s\n' "$*" >&2; }

# die says in one line what is missing and how to get it.
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" > /dev/null 2>&1; }

# as_root runs a command as root, or fails if this user may not.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo && sudo -n true 2> /dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

# apt_install PACKAGE… installs Debian packages if this machine has apt and
# this user may; it fails quietly where not, so that the caller can say what is
# missing. The package lists are fetched only if the first try fails: on most
# machines they are there.
apt_install() {
  have apt-get && as_root true || return 1
  say "installing $* with apt-get"
  apt_get install "$@" || { apt_get update && apt_get install "$@"; }
}

apt_get() {
  local verb=$1
  shift
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
    --no-install-recommends "$verb" "$@" > /dev/null
}
