#!/usr/bin/env bash
# install.sh PYTHON LOCK EXTRAS: the packages of a lock file, checked by hash, then this project in place.
# uv installs several times as fast as pip. Without uv, pip reads the same file; where an index
# lacks a locked release, pip chooses releases that pyproject.toml allows. Each says so.
set -euo pipefail
python=$1 lock=$2 extras=$3
root=$(cd "$(dirname "$0")/.." && pwd)

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

by_uv || by_pip || by_choice
