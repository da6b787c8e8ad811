#!/usr/bin/env bash
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test sanity over a real copy of the collection (it takes no symbolic links), with one ansible-core.
# Usage: sanity.sh PYTHON PYTHON_VERSION ANSIBLE_CORE
set -euo pipefail
python=$1 version=$2 core=$3
root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kube-storage-upgrade/sanity-$version
venv=$cache/venv
if [ "$(cat "$cache/core" 2>/dev/null)" != "$core" ]; then
  rm -rf "$cache"
  mkdir -p "$cache"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install -q "$core" PyYAML
  echo "$core" > "$cache/core"
fi
copy=$cache/collections/ansible_collections/kube_storage/upgrade
rm -rf "$cache/collections"
mkdir -p "$copy" "$cache/collections/ansible_collections/kubernetes"
git -C "$root" ls-files -z --cached --others --exclude-standard | (cd "$root" && xargs -0 -I{} sh -c 'test -f "{}" && cp --parents "{}" "'"$copy"'"')
cp -rL "$root/.ansible/collections/ansible_collections/kubernetes/core" "$cache/collections/ansible_collections/kubernetes/core"
# ansible-test downloads this script to put pip into its own environments; Python brings pip along just as well.
mkdir -p ~/.ansible/test/cache
requirements=$(echo "$venv"/lib/python*/site-packages/ansible_test/_internal/python_requirements.py)
for pip in $(grep -oE "'2[0-9]\.[0-9.]+'" "$requirements" | tr -d "'" | tr . _); do
  echo 'import ensurepip; ensurepip.bootstrap()' > ~/.ansible/test/cache/get_pip_"$pip".py
done
cd "$copy"
git init -q . && git add -A >/dev/null
# pep8: ruff format has the last word on layout. Every other test runs.
exec "$venv/bin/ansible-test" sanity --python "$version" --color no --skip-test pep8 --exclude tests/control_plane/ --exclude tests/demo/ --exclude tests/integration/ --exclude tests/unit/ --exclude tests/tools/
