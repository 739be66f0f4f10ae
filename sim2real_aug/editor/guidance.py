"""Guidance by three conditionings: source image, visual prompt, instruction (docs/method.md)."""

from __future__ import annotations

from dataclasses import dataclass

# Which conditionings each of the four predictions sees, in the order of `guidance_coefficients`.
PASSES = ((False, False, False), (True, False, False), (True, True, False), (True, True, True))


@dataclass(frozen=True)
class GuidanceScales:
    """s_og, s_sty and s_T. `image` and `text` default to InstructPix2Pix's."""

    image: float = 1.5
    style: float = 1.5
    text: float = 7.5


def guidance_coefficients(scales: GuidanceScales) -> tuple[float, float, float, float]:
    """Weights of e(∅,∅,∅), e(I_og,∅,∅), e(I_og,I_sty,∅) and e(I_og,I_sty,c_T) in the guided prediction

    e(∅,∅,∅) + s_og (e(I_og,∅,∅) − e(∅,∅,∅)) + s_sty (e(I_og,I_sty,∅) − e(I_og,∅,∅))
    + s_T (e(I_og,I_sty,c_T) − e(I_og,I_sty,∅)).

    They sum to 1. A pass whose weight is 0 need not run: with all scales 1 only the last does.
    """
    return (1 - scales.image, scales.image - scales.style, scales.style - scales.text, scales.text)


def active_passes(scales: GuidanceScales) -> list[tuple[float, tuple[bool, bool, bool]]]:
    """Weight of each pass that runs, and whether it sees source image, visual prompt and instruction."""
    weights = guidance_coefficients(scales)
    return [(weight, seen) for weight, seen in zip(weights, PASSES, strict=True) if weight != 0]
