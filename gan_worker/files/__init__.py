"""Network files as data: PyTorch, TensorFlow and safetensors files, read without running them."""
