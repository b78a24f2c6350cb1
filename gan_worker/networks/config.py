"""The architecture of a generator, with all options resolved."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

ARCHITECTURES = ("skip", "resnet", "orig")
ACTIVATIONS = (
    "linear",
    "lrelu",
    "relu",
    "swish",
    "tanh",
    "sigmoid",
    "elu",
    "selu",
    "softplus",
)
# Far above any network in use (the largest published ones have 1024 px and 512 channels). The
# limits keep a damaged or hostile file from requesting more memory than its weights need.
MAX_RESOLUTION = 4096
MAX_WIDTH = 16384
MAX_LAYERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Shape and options of a generator; raises ValueError if invalid."""

    resolution: int  # px, a power of two
    img_channels: int  # 1 grey, 3 colour
    labels: int  # classes of a conditional network, else 0
    z_dim: int
    w_dim: int
    widths: tuple[int, ...]  # feature channels at 4, 8, ..., resolution px
    architecture: str = "skip"
    activation: str = "lrelu"
    conv_clamp: float | None = None  # layer outputs are clamped to +-conv_clamp
    use_noise: bool = True
    mapping_layers: int = 8
    mapping_width: int = 512
    mapping_activation: str = "lrelu"
    mapping_lr_multiplier: float = 0.01
    embed_width: int = 0  # 0 without labels
    w_avg_beta: float = 0.995  # decay of the running mean of w in training

    def __post_init__(self) -> None:
        for rule, holds in self._rules().items():
            if not holds:
                raise ValueError(f"{rule}, got {self}")

    def _rules(self) -> dict[str, bool]:
        resolution, layers = self.resolution, self.mapping_layers
        blocks = resolution.bit_length() - 2
        inputs = self.z_dim + self.embed_width
        return {
            f"resolution must be a power of two from 4 to {MAX_RESOLUTION}": (
                4 <= resolution <= MAX_RESOLUTION and resolution & (resolution - 1) == 0
            ),
            "widths must have one width per block": len(self.widths) == blocks,
            f"widths must be in 1..{MAX_WIDTH}": all(1 <= w <= MAX_WIDTH for w in self.widths),
            "img_channels must be in 1..16": 1 <= self.img_channels <= 16,
            f"labels must be in 0..{MAX_WIDTH}": 0 <= self.labels <= MAX_WIDTH,
            f"z_dim must be in 0..{MAX_WIDTH}": 0 <= self.z_dim <= MAX_WIDTH,
            f"w_dim must be in 1..{MAX_WIDTH}": 1 <= self.w_dim <= MAX_WIDTH,
            f"mapping_width must be in 1..{MAX_WIDTH}": 1 <= self.mapping_width <= MAX_WIDTH,
            f"mapping_layers must be in 1..{MAX_LAYERS}": 1 <= layers <= MAX_LAYERS,
            "a network with labels must embed them": (self.labels > 0) == (self.embed_width > 0),
            f"the mapping network needs 1..{2 * MAX_WIDTH} inputs": 1 <= inputs <= 2 * MAX_WIDTH,
            f"architecture must be one of {ARCHITECTURES}": self.architecture in ARCHITECTURES,
            f"activations must be among {ACTIVATIONS}": (
                {self.activation, self.mapping_activation} <= set(ACTIVATIONS)
            ),
            "conv_clamp must be above 0 or absent": self.conv_clamp is None or self.conv_clamp > 0,
        }

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions of the blocks: 4, 8, ..., `resolution`."""
        return tuple(2**power for power in range(2, self.resolution.bit_length()))

    @property
    def num_ws(self) -> int:
        """Number of w vectors: one per convolution, and one for the last toRGB."""
        return 2 * len(self.widths)

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Sides of the noise maps in layer order: 4, 8, 8, 16, 16, ..."""
        return tuple(res for res in self.resolutions for _ in range(1 if res == 4 else 2))

    @property
    def mapping_sizes(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of each layer of the mapping network."""
        hidden = [self.mapping_width] * (self.mapping_layers - 1)
        return tuple(pairwise([self.z_dim + self.embed_width, *hidden, self.w_dim]))
