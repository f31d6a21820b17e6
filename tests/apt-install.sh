#!/bin/sh
# Installs the Debian packages named as arguments without starting their services. Must run as root.

set -eu

# Debian asks this program before it starts a service for a package; 101 is "no".
policy=/usr/sbin/policy-rc.d
saved=$policy.saved-by-tests-run
mark="# written by tests/run, which removes it again"

ours() {
  [ -f "$policy" ] && grep -q "^$mark" "$policy"
}

forbid_services() {
  # A run that was killed in between left its own program and perhaps the saved one: then that one stays the saved one.
  if ! ours && { [ -e "$policy" ] || [ -L "$policy" ]; }; then
    mv "$policy" "$saved"
  fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.new"
  chmod 755 "$policy.new"
  mv "$policy.new" "$policy"
}

restore_services() {
  if ours; then
    rm -f "$policy"
  fi
  if [ -e "$saved" ] || [ -L "$saved" ]; then
    mv "$saved" "$policy"
  fi
}

trap restore_services EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
forbid_services

export DEBIAN_FRONTEND=noninteractive
apt-get update || echo "apt-get update failed; trying with the package lists that are there" >&2
# Right after a machine has started, its own updates may still hold the lock.
apt-get install --yes --no-install-recommends --option DPkg::Lock::Timeout=300 "$@" </dev/null
