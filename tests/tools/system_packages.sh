#!/usr/bin/env bash
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs the Debian packages that a kind of tests needs, if any is missing and this is root on Debian or Ubuntu.
# Usage: system_packages.sh python|integration|browser|databases|kubeadm|java ...
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
missing=()

# need PACKAGE PROGRAM...: the package, unless one of the programs is there.
need() {
  local package=$1 program
  shift
  for program in "$@"; do
    if command -v "$program" >/dev/null; then return; fi
  done
  missing+=("$package")
}

for kind in "$@"; do
  case $kind in
    python)
      python3 -c "import ensurepip, venv" 2>/dev/null || missing+=(python3-venv)
      ;;
    integration | kubeadm)
      need git git
      need iproute2 ip
      need openssh-client ssh
      need openssh-server sshd
      need util-linux nsenter
      ;;&
    kubeadm)
      need containerd containerd
      need runc runc
      [ -e /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
      ;;
    integration) ;;
    browser)
      need chromium chromium chromium-browser google-chrome chrome
      [ ${#missing[@]} = 0 ] || missing+=(fonts-dejavu-core)
      ;;
    databases)
      [ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || missing+=(postgresql)
      need mariadb-server-core mariadbd
      need mariadb-client-core mariadb
      ;;
    java)
      need default-jre-headless java
      ;;
    *)
      echo "system_packages.sh: there are no tests called $kind" >&2
      exit 2
      ;;
  esac
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "$* needs ${missing[*]}: install that, or run as root on Debian or Ubuntu to have it installed." >&2
  exit 1
fi
# The run level keeps Debian from starting servers that it installs.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
if ! said=$(apt-get update -qq 2>&1 && apt-get install -y -qq --no-install-recommends "${missing[@]}" 2>&1); then
  echo "$said" >&2
  exit 1
fi
