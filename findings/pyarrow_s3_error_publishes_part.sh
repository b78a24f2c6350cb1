#!/usr/bin/env bash
# pyarrow 26.0.1: an error while a file is written to S3 publishes the part that was written.
#
# An object store shows an object only when it is whole, so a writer that fails is expected to leave nothing, or
# the object that was there. pyarrow's stream closes itself at the end of its `with` block, also when an error
# ends the block, and closing completes the upload. A table that fails after two of three row groups stays as
# a shorter object under its final name, and replaces a whole one of that name. pyarrow has no call that gives an
# upload up (`NativeFile` has close() alone).
#
# Who is hit: whoever writes checkpoints, rows or shards straight to a bucket and takes what is there for whole.
# A Parquet file without its footer is refused by readers; CSV, JSON lines and raw bytes are read, and are short.
# fgaug writes an object from bytes that exist already, in one write:
# tests/test_store.py and tests/test_store_faults.py
#
# Seen on 2026-12-01:
#   pyarrow 26.0.1, an S3 object of 3 rows, written again by a writer that fails
#   rows before: 3
#   raised: the third row cannot be computed
#   rows after, expected: 3, of the writer that did not fail
#   rows after, seen: 2
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  "pyarrow==26.0.1" "moto[server]==5.2.5" 2> "$place/pip.log" || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" - <<'PYTHON'
import csv
import io
import sys

import pyarrow
from moto.server import ThreadedMotoServer
from pyarrow import fs

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
store = fs.S3FileSystem(
    access_key="key",
    secret_key="secret",
    region="us-east-1",
    scheme="http",
    endpoint_override=f"{host}:{port}",
    allow_bucket_creation=True,
)
store.create_dir("bucket")
PATH = "bucket/predictions.csv"


def rows(count):
    return [[f"image-{number}", "benign", number / 10] for number in range(count)]


def write(source):
    with store.open_output_stream(PATH) as stream:
        for row in source:
            stream.write((",".join(map(str, row)) + "\n").encode())


def failing():
    yield from rows(2)
    raise RuntimeError("the third row cannot be computed")


def stored():
    with store.open_input_file(PATH) as file:
        return list(csv.reader(io.StringIO(file.read().decode())))


write(rows(3))
before = len(stored())
try:
    write(failing())
    raised = None
except RuntimeError as error:
    raised = str(error)
after = len(stored())
server.stop()
print(f"pyarrow {pyarrow.__version__}, an S3 object of 3 rows, written again by a writer that fails")
print(f"rows before: {before}")
print(f"raised: {raised}")
print(f"rows after, expected: {before}, of the writer that did not fail")
print(f"rows after, seen: {after}")
sys.exit(0 if (before, after) == (3, 2) and raised else 1)
PYTHON
