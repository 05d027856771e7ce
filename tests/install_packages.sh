#!/usr/bin/env bash
# usage: tests/install_packages.sh
#
# Installs Debian's packages slurm-wlm and munge (for tests/slurm) and chromium (for tests/report) if they are missing. Where
# that is impossible, it says why and succeeds: the tests that need them are skipped.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
has() { command -v "$1" >/dev/null; }
cannot() { echo "install_packages.sh: ${packages[*]} not installed, so some tests will be skipped: $*" >&2; exit 0; }

packages=()
has slurmctld && has slurmd && has munged || packages+=(slurm-wlm munge)
has chromium || has chromium-browser || has google-chrome || has chrome || packages+=(chromium)
[ ${#packages[@]} -gt 0 ] || exit 0
has apt-get || cannot "there is no apt-get"
[ "$(id -u)" = 0 ] || cannot "this needs root"

echo "install_packages.sh: installing ${packages[*]}" >&2
policy=/usr/sbin/policy-rc.d  # with this status, the services of the packages are not started
if [ -e $policy ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy; fi
log=$(mktemp)
trap 'rm -f "$log" $policy' EXIT
apt=(timeout 300 env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=1 -o Acquire::http::Timeout=20
  -o DPkg::Lock::Timeout=30)
{ "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 ||
  cannot "$(grep '^E:' "$log" | tail -n 1)"
echo "install_packages.sh: done in $SECONDS s" >&2
