"""CUT's networks and losses, one function an equation: what `unpaired` trains.

Park et al. 2020, "Contrastive Learning for Unpaired Image-to-Image Translation" (arXiv:2007.15651), smaller than the
authors' (taesungp/contrastive-unpaired-translation). Where else we leave their paper or code is said at the line.

Legend: B images (B, 3, H, W) float in [-1, 1]; C channels and h w pixels of a feature map; S patches of an image, D
dimensions of a patch's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from sim2real_aug.errors import BadInput

STRIDE = 4  # pixels a side of one cell of the generator's coarsest features


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(size // 2),
        nn.Conv2d(inputs, outputs, size, stride),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(),
    )


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels, 3),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class CutGenerator(ModelMixin, ConfigMixin):
    """The ResNet of CycleGAN and CUT: two halvings, `blocks` residual blocks, two doublings. Sides: multiples of 4.

    The contrastive loss reads the input, both halvings, the first and the middle block, as in the paper.
    """

    @register_to_config
    def __init__(self, image_size: int = 96, channels: int = 16, blocks: int = 4) -> None:
        super().__init__()
        wide, half = 4 * channels, blocks // 2 + 1
        self.tapped = (1, 2, 3, 2 + half)
        self.feature_channels = (3, 2 * channels, wide, wide, wide)
        self.encoder = nn.ModuleList(
            [
                _convolution(3, channels, 7),
                _convolution(channels, 2 * channels, 3, stride=2),
                _convolution(2 * channels, wide, 3, stride=2),
                *(_Block(wide) for _ in range(half)),
            ]
        )
        self.decoder = nn.Sequential(
            *(_Block(wide) for _ in range(blocks - half)),
            nn.Upsample(scale_factor=2),
            _convolution(wide, 2 * channels, 3),
            nn.Upsample(scale_factor=2),
            _convolution(2 * channels, channels, 3),
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, 3, 7),
            nn.Tanh(),
        )

    def encode(self, images: Tensor) -> list[Tensor]:
        """Features (B, C, h, w) of five layers, C being `feature_channels`; the last is what `decoder` takes.

        Raises BadInput for sides that are no multiples of 4.
        """
        if images.shape[-2] % STRIDE or images.shape[-1] % STRIDE:
            raise BadInput(
                f"image sides must be multiples of {STRIDE} for CUT; got {images.shape[-2]} x {images.shape[-1]}"
            )
        x, features = images, [images]
        for number, layer in enumerate(self.encoder):
            x = layer(x)
            if number in self.tapped:
                features.append(x)
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encode(images)[-1])


class PatchDiscriminator(nn.Sequential):
    """PatchGAN: images (B, 3, H, W) to (B, 1, h, w), how real each 34-pixel patch looks (the authors': 70 of 256)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(3, channels, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.InstanceNorm2d(2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 4, 1, 1),
            nn.InstanceNorm2d(4 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 1, 4, 1, 1),
        )


class PatchHeads(nn.ModuleList):
    """The paper's H: for each layer a two-layer perceptron from its features to embeddings on the unit sphere."""

    def __init__(self, feature_channels: Sequence[int], embedding: int) -> None:
        super().__init__(
            nn.Sequential(nn.Linear(channels, embedding), nn.ReLU(), nn.Linear(embedding, embedding))
            for channels in feature_channels
        )

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """(B, S, D) of each layer, from its features (B, C, h, w) at its places (S,), numbers of pixels."""
        return [
            F.normalize(head(feature.flatten(2)[..., chosen].transpose(1, 2)), dim=-1)
            for head, feature, chosen in zip(self, features, places, strict=True)
        ]


# Equation 1 with the squares that section 4 puts for the logarithms: Mao et al. 2017 (LSGAN), equation 2, a = 0, b = 1
def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half the mean squares of D(y) - 1 and of D(G(x))."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


# The generator's side of equation 1; LSGAN, equation 2, c = 1, without its factor 1/2 as in the authors' code
def adversarial_loss(fake: Tensor) -> Tensor:
    """The mean square of D(G(x)) - 1."""
    return (fake - 1).square().mean()


# Equation 2
def cross_entropy_of_patches(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """-log of the share that its own key has for each query (B, S, D); keys (B, S, D) of the same image's other
    patches are the negatives."""
    similarities = queries @ keys.transpose(1, 2) / temperature
    own = torch.arange(keys.shape[1], device=keys.device).expand(similarities.shape[:2])
    return F.cross_entropy(similarities.flatten(0, 1), own.flatten())


# Equation 3; means over layers and patches, as the authors' code, where the paper prints sums
def patch_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
    """The mean of equation 2 over layers of embeddings (B, S, D); the keys are targets and get no gradient."""
    losses = [
        cross_entropy_of_patches(q, k.detach(), temperature) for q, k in zip(queries, keys, strict=True)
    ]
    return torch.stack(losses).mean()
