"""Cross-attention that fuses the two conditioning latents with the instruction before conv_in.

Query: a linear map of concat(E(I_og), E(I_sty)); key and value: projections of the text encoder's output. The
output projection starts at zero, so that a new layer changes nothing.
"""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F


class ConditioningFusion(ModelMixin, ConfigMixin):
    """(B, 2C, h, w) image latents and (B, L, D) text to (B, 2C, h, w) image latents."""

    @register_to_config
    def __init__(
        self, latent_channels: int = 8, text_dim: int = 768, inner_dim: int = 64, heads: int = 4
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(latent_channels, inner_dim)
        self.to_k = nn.Linear(text_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(text_dim, inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, latent_channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, latents: Tensor, text: Tensor) -> Tensor:
        pixels = latents.flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            self._split(self.to_q(pixels)), self._split(self.to_k(text)), self._split(self.to_v(text))
        )
        update = self.to_out(attended.transpose(1, 2).flatten(2))
        return latents + update.transpose(1, 2).reshape(latents.shape)
