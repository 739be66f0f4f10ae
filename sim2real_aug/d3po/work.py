"""What a round of D3PO computes: passes of the UNet through its edits, and the operations of one."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.guidance import GuidanceScales, active_passes


def round_passes(settings: D3POSettings, scales: GuidanceScales, checkpointing: bool) -> int:
    """Forward passes of one image through the UNet that a round is worth, held-out edits not among them.

    An edit is sampled, its steps that are learned from are seen by the reference, and these are learned from: forward,
    again where checkpointing forgets it, and backward, which is another pass for the inputs' gradients and one more
    where the gradients of all weights are taken.
    """
    edits = settings.conditions_per_round * settings.trajectories_per_condition
    backward = 2 if settings.train == "full" else 1
    learned = settings.train_timesteps * settings.inner_epochs * (1 + checkpointing + backward)
    steps = settings.num_inference_steps + settings.train_timesteps + learned
    return edits * len(active_passes(scales)) * steps


@torch.no_grad()
def pass_operations(editor: Editor) -> float:
    """Floating-point operations of one pass of one image through the UNet, which may be on the meta device."""
    config, text = editor.unet.config, editor.text_encoder.config
    like = {"device": editor.unet.device, "dtype": editor.unet.dtype}
    latents = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size, **like)
    tokens = torch.zeros(1, text.max_position_embeddings, text.hidden_size, **like)
    with FlopCounterMode(display=False) as counter:
        editor.unet(latents, torch.zeros(1, device=editor.unet.device), encoder_hidden_states=tokens)
    return float(counter.get_total_flops())
