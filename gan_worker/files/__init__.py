"""Read network files (PyTorch, TensorFlow and safetensors) without running code from them."""
