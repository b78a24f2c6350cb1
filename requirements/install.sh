#!/usr/bin/env bash
# install.sh PYTHON LOCK EXTRAS: the packages of a lock file, checked by hash, then this project in place.
# uv installs several times as fast as pip. Without uv, pip reads the same file; where an index
# lacks a locked release, pip chooses releases that pyproject.toml allows. Each says so. A file whose
# hash differs ends the installation. uv reads UV_DEFAULT_INDEX, not pip's settings.
set -euo pipefail
python=$1 lock=$2 extras=$3
root=$(cd "$(dirname "$0")/.." && pwd)
said=$(mktemp)
trap 'rm -f "$said"' EXIT

by_uv() {
  "$python" -m pip install --quiet --require-hashes --requirement "$root/requirements/uv.txt" &&
    "$python" -m uv pip install --quiet --python "$python" --require-hashes --requirements "$lock" &&
    "$python" -m uv pip install --quiet --python "$python" --no-deps --editable "$root"
}

by_pip() {
  echo "uv cannot install $lock here; pip installs it" >&2
  "$python" -m pip install --quiet --require-hashes --requirement "$lock" &&
    "$python" -m pip install --quiet --no-deps --editable "$root"
}

by_choice() {
  echo "the releases of $lock cannot be had here; pip chooses others that pyproject.toml allows" >&2
  "$python" -m pip install --quiet --upgrade-strategy only-if-needed --editable "$root$extras"
}

# Runs a way; ends if a package is not the locked one, which another way must not hide.
tried() {
  "$@" 2> >(tee "$said" >&2) && return 0
  sleep 0.2 # until tee has written
  if grep -qiE 'hash mismatch|do not match the hashes' "$said"; then
    echo "a package differs from its hash in $lock: nothing more is installed" >&2
    exit 1
  fi
  return 1
}

tried by_uv || tried by_pip || by_choice
