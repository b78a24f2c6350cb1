#!/usr/bin/env bash
# fastparquet 2026.9.0 drops trailing zero bytes of fixed-size binary columns.
#
# A column of the Parquet type FIXED_LEN_BYTE_ARRAY has values of one length, and zeros at their end
# are data. fastparquet reads such a column into a NumPy array of dtype S<length>, and NumPy cuts
# zeros from the end of what it takes out of one. Columns of the type BYTE_ARRAY (no fixed length)
# are not affected, and pyarrow reads both as they were written.
#
# Who is hit: the pixels of a bank of fgaug (`shards/`) and of a prepared dataset (`pixels/`) are
# such columns. An image whose last pixels are black comes out too short, and cannot be reshaped.
# Way out: read them by pyarrow, pandas (engine="pyarrow"), polars or DuckDB.
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  fastparquet==2026.9.0 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6 2> "$place/pip.log" \
  || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" - "$place/pixels.parquet" <<'PYTHON'
import sys

import fastparquet
import pyarrow as pa
import pyarrow.parquet as pq

path = sys.argv[1]
images = [bytes([1, 2, 3, 4]), bytes([1, 2, 0, 0]), bytes(4), bytes([0, 1, 0, 2])]
columns = {"fixed": pa.array(images, pa.binary(4)), "variable": pa.array(images, pa.binary())}
pq.write_table(pa.table(columns), path)

by_pyarrow = pq.read_table(path).to_pydict()
frame = fastparquet.ParquetFile(path).to_pandas()
lengths = {name: [len(value) for value in frame[name]] for name in columns}
print(f"fastparquet {fastparquet.__version__}, written by pyarrow {pa.__version__}")
print("written:  4 images of 4 bytes each, in a fixed-size and in a variable-size column")
print("expected: every value comes back with 4 bytes")
print(f"pyarrow:     fixed {[len(value) for value in by_pyarrow['fixed']]}")
print(f"fastparquet: fixed {lengths['fixed']}, variable {lengths['variable']}")
as_described = lengths == {"fixed": [4, 2, 0, 4], "variable": [4, 4, 4, 4]}
whole = by_pyarrow["fixed"] == images
print("seen: trailing zero bytes are dropped" if as_described else "seen: something else")
sys.exit(0 if as_described and whole else 1)
PYTHON
