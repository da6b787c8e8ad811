#!/usr/bin/env bash
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs what the masters of tests/kubeadm need of this machine. Debian would start some of it; here nothing of that is wanted.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
missing=()
for pair in containerd:containerd runc:runc sshd:openssh-server ssh:openssh-client ip:iproute2 nsenter:util-linux; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ -e /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "make test-kubeadm needs ${missing[*]}, and can install that only as root on Debian or Ubuntu." >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
