"""StyleGAN2 building blocks in plain PyTorch, CPU and GPU.  config -> modules

Written from the papers (Karras et al. 2019, arXiv:1812.04948; 2020, arXiv:1912.04958 and
2006.06676). Modules carry the tensor names of the official PyTorch files, so the tensors of a
snapshot load as they are, and parameters are stored unscaled: equalised learning rates apply at
run time, in training and in sampling alike.
"""

from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.generator import GeneratorNetwork

__all__ = ["GeneratorConfig", "GeneratorNetwork"]
