"""The Keras backend: a TensorFlow process of its own, and what this process knows of it.

`learner`, `training`, `process`, `known` and `start` load no TensorFlow; `child` and what it
imports (`network`, `augment`, `fitting`, `weight_file`) run in the other process.
"""
