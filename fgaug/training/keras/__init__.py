"""The Keras backend, which runs TensorFlow in a separate process.

`worker` and the modules it imports (`network`, `augmentation`, `devices`, `fitting`,
`weight_file`) run in that process. The other modules never import TensorFlow.
"""
