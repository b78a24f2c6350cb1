#!/usr/bin/env bash
# Keras 3.15.1: freezing layers before `save("x.h5")` changes the order of a nested model's weights.
#
# A whole model saved as .h5 holds a nested application as one list of weights: those that can be
# trained first, then the rest. Freezing moves a layer's weights to the end of that list, and
# load_weights goes by place, not by name. A model that was saved with its first half frozen, read into
# the same model with nothing frozen, therefore gets other layers' weights. Where the shapes differ it
# is refused; where they are alike, as within a block of VGG, it is taken in silence. The names in the
# file are right, and files of `save_weights` and .keras are not affected.
#
# Who is hit: transfer learning on few medical images freezes the lower half by rule. The network
# that is shared as .h5 then gives other predictions to whoever reads it into a fresh model.
# fgaug goes by the names in the file:
# tests/test_keras_nested.py::test_the_older_layout
#
# Seen on 2026-11-30:
#   Keras 3.15.1, backend jax
#   saved with conv0 and conv1 frozen, read into the same model with nothing frozen
#   expected: ['conv0', 'conv1', 'conv2', 'conv3'] get the kernels of ['conv0', 'conv1', 'conv2', 'conv3']
#   whole.h5: they get those of ['conv2', 'conv3', 'conv0', 'conv1']
#   alone.weights.h5: they get those of ['conv0', 'conv1', 'conv2', 'conv3']
#   whole.keras: they get those of ['conv0', 'conv1', 'conv2', 'conv3']
#   order in whole.h5: ['conv2/kernel', 'conv3/kernel', 'conv0/kernel', 'conv1/kernel']
#   seen: layers change places in silence
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 scipy==1.17.0 numpy==2.4.6 2> "$place/pip.log" \
  || { cat "$place/pip.log"; exit 2; }

cd "$place"
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" 2> "$place/err.log" - <<'PYTHON' || { status=$?; cat "$place/err.log"; exit "$status"; }
import sys

import h5py
import keras
import numpy as np
from keras import layers

CONVOLUTIONS = [f"conv{place}" for place in range(4)]


def model(frozen):
    """Return four convolutions of one shape as a body, with a head; the first `frozen` are frozen."""
    start = values = keras.Input((8, 8, 4))
    for name in CONVOLUTIONS:
        values = layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(values)
    body = keras.Model(start, values, name="body")
    for name in CONVOLUTIONS[:frozen]:
        body.get_layer(name).trainable = False
    pooled = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 4)), body, pooled, layers.Dense(2)])


def kernels(whole):
    return [whole.get_layer("body").get_layer(name).get_weights()[0] for name in CONVOLUTIONS]


saved = model(frozen=2)
whence = {}
for file in ("whole.h5", "alone.weights.h5", "whole.keras"):
    (saved.save_weights if "weights" in file else saved.save)(file)
    fresh = model(frozen=0)
    fresh.load_weights(file)
    whence[file] = [
        CONVOLUTIONS[next(i for i, own in enumerate(kernels(saved)) if np.array_equal(own, kernel))]
        for kernel in kernels(fresh)
    ]
with h5py.File("whole.h5") as file:
    stored = [str(name) for name in file["model_weights/body"].attrs["weight_names"]]
print(f"Keras {keras.__version__}, backend {keras.backend.backend()}")
print("saved with conv0 and conv1 frozen, read into the same model with nothing frozen")
print(f"expected: {CONVOLUTIONS} get the kernels of {CONVOLUTIONS}")
for name, found in whence.items():
    print(f"{name}: they get those of {found}")
print(f"order in whole.h5: {[name for name in stored if 'kernel' in name]}")
swapped = whence.pop("whole.h5") == ["conv2", "conv3", "conv0", "conv1"]
as_described = swapped and all(found == CONVOLUTIONS for found in whence.values())
print("seen: layers change places in silence" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
