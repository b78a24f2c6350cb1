"""StyleGAN2 networks in plain PyTorch, for CPU and GPU.

Written from the papers (Karras et al. 2019, arXiv:1812.04948; 2020, arXiv:1912.04958 and
2006.06676). Modules have the tensor names of the official PyTorch files, so snapshots load
directly. Parameters are stored unscaled: equalised learning rates are applied at run time, in
training and sampling.
"""

from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.generator import GeneratorNetwork

__all__ = ["GeneratorConfig", "GeneratorNetwork"]
