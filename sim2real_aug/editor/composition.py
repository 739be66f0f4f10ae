"""Visual prompts in the source's layout: the photos' bench without what moves on it, and what moves in its colours.

A photo shows block and pusher elsewhere than the source does, and a small network copies from the same place of its
visual prompt far more readily than from the same thing. So the photos are taken apart once: a plate (the bench alone),
the block's colour and shadow, and what pushes it. For each source they are put together as the source has it.

Legend: P photos of each of G benches, B sources, R regions, S pixels a side. Images (3, S, S) in [0, 1]; labels (S, S),
index into REGIONS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.data.photos import PhotoSet, load_photos
from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor.masks import SOFT, blurred, flooded, grown
from sim2real_aug.editor.pushers import Pushers, read_pushers
from sim2real_aug.editor.shadows import ARM, Shadows, fit_shadows
from sim2real_aug.judges import SHIPPED_JUDGE
from sim2real_aug.judges.base import SegmentationJudge
from sim2real_aug.judges.compact import load_compact_judge
from sim2real_aug.pixels import resized
from sim2real_aug.progress import say

COMPOSITION = 6  # raised where the same photos make other prompts: work of another number is not gone on with
TABLE, BLOCK, PUSHER = (REGIONS.index(name) for name in ("table", "block", "pusher"))
MOVING = (BLOCK, PUSHER)
MARGIN = 0.03  # of the side: what moves is taken out with its edge and the beginning of its shadow
RIM = 0.02  # of the side: as far as a lens mixes what moves into the bench; farther a shadow can be told from it
COVERS = 0.5  # of a pixel: with a greater share a pusher hides what the source shows there
UNLIKE = 0.08  # a photo's pixel that is farther from what most photos show is not at rest
OTHER_COLOR = 0.2  # light alone does not change a thing more than this from photo to photo
BLOCK_COLOR = 0.1  # a pixel nearer than this to the block's colour may be a part of it that was not found
LEAST_SHARE = 0.001  # of a photo, for a region to tell its colour
AT_REST, LEAST_PHOTOS = 0.6, 3  # share and number of photos that agree in a pixel: what is there belongs to the bench
MOST_HIDDEN = 0.02  # of a plate; at most 0.0001 in photos of seven scenes whose plates show no trace of what moved
THIN = 0.02  # of the side, taken off each side of what is thin, and nothing of it is left


@dataclass(frozen=True)
class Seen:
    """images: (B, 3, S, S). covered: (B, S, S) bool, where they show a photo's pusher, whatever a source does."""

    images: Tensor
    covered: Tensor

    def resized(self, size: int | tuple[int, int]) -> Seen:
        """Itself where it has that size."""
        images = resized(self.images.flatten(0, -4), size)
        covered = resized(self.covered[:, None].to(images.dtype), size)[:, 0] > COVERS
        return Seen(images.view(*self.images.shape[:-2], *images.shape[-2:]), covered)


@dataclass(frozen=True)
class Bench:
    """What P photos show. plates: (P, 3, S, S). colors: (P, R, 3), of what moves. shadows: of the block, P. pushers: P.
    hidden: (P,) share of the plate that no photo shows, filled in from around it."""

    plates: Tensor
    colors: Tensor
    shadows: Shadows
    pushers: Pushers
    hidden: Tensor

    def seen_as(self, labels: Tensor, chosen: Tensor) -> Seen:
        """The bench as photos `chosen` (B,) show it, with what moves where `labels` (B, S, S) have it."""
        pusher = self.pushers.moved_to(labels == PUSHER, chosen)
        images = self.plates[chosen] * self.shadows[chosen].cast(labels == BLOCK)
        for region, shown in ((BLOCK, True), (PUSHER, ~pusher.shown[:, None, None])):
            there = blurred(((labels == region) & shown)[:, None].to(images.dtype), SOFT * images.shape[-1])
            images = torch.lerp(images, self.colors[chosen, region][:, :, None, None], there)
        images = torch.lerp(images * pusher.light, pusher.colors, pusher.share)
        return Seen(images, pusher.share[:, 0] > COVERS)


@dataclass(frozen=True)
class Composer:
    """Makes the visual prompts of an editor that composes them. segmenter: reads sources whose regions are unknown."""

    bench: Bench
    segmenter: SegmentationJudge

    def __call__(self, chosen: Tensor, source: Tensor, labels: Tensor | None = None) -> Seen:
        """Prompts (B, n, 3, S, S) for sources (B, 3, S, S), whose regions may be known (B, S, S), by photos (B, n).

        All prompts of a source have the same pusher, so one `covered` (B, S, S) is that of each.
        """
        labels = label_regions(self.segmenter, source) if labels is None else labels
        seen = [self.bench.seen_as(labels, column) for column in chosen.T]
        return Seen(torch.stack([each.images for each in seen], dim=1), seen[0].covered)


def composition_of(editor: Any) -> int | None:
    """The number of the composition that `editor` is shown prompts of; None for one that takes photos as they are."""
    return COMPOSITION if getattr(editor, "composes", False) else None


def prompt_size(editor: Any, height: int, width: int) -> tuple[int, int]:
    """Of the visual prompts for frames of a size: the editor's own size, or theirs where they are larger and the editor
    composes prompts, of which it changes little."""
    own = editor.image_size
    return (own, own) if composition_of(editor) is None or max(height, width) <= own else (height, width)


def load_prompts(folder: str | Path, editor: Any, height: int, width: int) -> PhotoSet:
    """The photos of `folder` as large as the prompts that `editor` is shown for frames of a size, and as wide."""
    return load_photos(folder, max(prompt_size(editor, height, width)), width / height)


def with_change(prompts: Tensor, small: Tensor, edits: Tensor) -> Tensor:
    """The mean of prompts (B, n, 3, H, W) with what `edits` (B, 3, S, S) change of it, made of the same prompts in the
    editor's size, `small`: as sharp as the photos are, but where something is changed."""
    if prompts.shape == small.shape:
        return edits
    return (prompts.mean(1) + resized(edits - small.mean(1), tuple(prompts.shape[-2:]))).clamp(0, 1)


@torch.no_grad()
def composer_for(
    editor: Any, photos: Tensor, masks: Tensor | None = None, segmenter: SegmentationJudge | None = None
) -> Composer | None:
    """The composer of photos (P, 3, S, S) for `editor`; None for one that takes photos as they are.

    masks: (P, S, S) bool, where the block is in photos whose owner outlined it, all False in the others. segmenter:
    None takes the compact judge that ships.
    """
    if composition_of(editor) is None:
        return None
    segmenter = load_compact_judge(SHIPPED_JUDGE).to(photos.device) if segmenter is None else segmenter
    labels = label_regions(segmenter, photos)
    if masks is not None:
        outlined = masks.flatten(1).any(1)[:, None, None]
        labels = torch.where(outlined & (labels == BLOCK), TABLE, labels).masked_fill(masks, BLOCK)
    return Composer(take_apart(photos, labels), segmenter)


def say_what_is_hidden(composer: Composer | None) -> None:
    """Tell the user how much of the bench no photo shows, where it is too much to be filled in well."""
    hidden = 0.0 if composer is None else composer.bench.hidden.max().item()
    if hidden > MOST_HIDDEN:
        say(
            f"{hidden:.0%} of the bench is hidden in every photo and filled in from around it; add photos with "
            "block, pusher and arm elsewhere"
        )


def label_regions(segmenter: SegmentationJudge, images: Tensor) -> Tensor:
    """The region of each pixel of images (B, 3, H, W), (B, H, W); the table where nothing is found."""
    labels = torch.full((len(images), *images.shape[-2:]), TABLE, device=images.device)
    for region, name in enumerate(REGIONS):
        labels[segmenter.segment(images, name)] = region
    return labels


def take_apart(photos: Tensor, labels: Tensor) -> Bench:
    """The bench of photos (P, 3, S, S) whose regions are known, (P, S, S)."""
    return taken_apart(photos[None], labels[None], torch.ones(1, len(photos), dtype=torch.bool, device=photos.device))


def taken_apart(photos: Tensor, labels: Tensor, used: Tensor) -> Bench:
    """G benches as one of G * P photos, bench by bench, from photos (G, P, 3, S, S) with regions (G, P, S, S), of which
    `used` (G, P) count."""
    labels = torch.where(used[..., None, None], labels, TABLE)
    rests = _at_rest(photos, used)
    labels = torch.where(_thin(rests & (labels == PUSHER)), TABLE, labels)
    colors, own = _colors(photos, labels)
    strays = _strays(photos, labels, colors[:, :, BLOCK], rests, used)
    plates, *_ = _plates(photos, labels, strays, used)
    whole = torch.where(_pusher_with_arm(photos, plates, labels), PUSHER, labels)
    plates, exposure, hidden = _plates(photos, whole, strays, used)
    rim = grown(_moves(whole), round(RIM * photos.shape[-1])) | ~used[..., None, None]
    blocks, regions = whole == BLOCK, whole == PUSHER
    shadows = fit_shadows(photos, plates, blocks, regions, rim)
    each = torch.arange(len(photos), device=photos.device).repeat_interleave(photos.shape[1])
    lit = plates * shadows[each].cast(blocks.flatten(0, 1)).view_as(plates[:, :, :1])
    sticks = (labels == PUSHER) & own[:, :, PUSHER, None, None]
    pushers = read_pushers(photos, lit, exposure, sticks, regions, blocks)
    return Bench(plates.flatten(0, 1), colors.flatten(0, 1), shadows[each], pushers, hidden[each])


def _moves(labels: Tensor) -> Tensor:
    return torch.stack([labels == region for region in MOVING]).any(0)


def _plates(photos: Tensor, labels: Tensor, strays: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bench alone in each photo's light, (G, P, 3, S, S), what each photo has in light above it, (G, P, 3, 1, 1),
    and the share of it that no photo shows, (G,). strays: (G, P, S, S), what is no bench either.

    A gap of up to four margins between what moves shows no bench: outlines are poor where an arm is over a block.
    """
    side = photos.shape[-1]
    margin = round(MARGIN * side)
    covered = ~grown(~grown(_moves(labels) | strays, 2 * margin), margin) | ~used[..., None, None]
    shaded = covered | grown(labels == PUSHER, round(ARM * side))
    uneven = _middle(photos, shaded, covered)
    plate = _filled(_middle(photos - _exposure(photos, uneven, covered), shaded, covered))
    exposure = _exposure(photos, plate, covered)
    return (plate[:, None] + exposure).clamp(0, 1), exposure, covered.all(1).float().mean((1, 2))


def _pusher_with_arm(photos: Tensor, plates: Tensor, labels: Tensor) -> Tensor:
    """Pushers (G, P, S, S) with all that hangs together with them and is no bench: a judge sees an arm in part."""
    pushers, blocks = labels == PUSHER, grown(labels == BLOCK, round(RIM * photos.shape[-1]))
    unlike = (photos - plates).abs().amax(2) > OTHER_COLOR
    return flooded(pushers, pushers | (unlike & ~blocks))


def _at_rest(photos: Tensor, used: Tensor) -> Tensor:
    """Where photos show what most of the others show too, (G, P, S, S)."""
    unused = ~used[..., None, None]
    middle = photos.masked_fill(unused[:, :, None], torch.nan).nanmedian(dim=1).values
    apart = photos - middle[:, None] - _exposure(photos, middle, unused)
    agree = (apart.abs() <= UNLIKE).all(2) & ~unused
    enough = (AT_REST * used.sum(1)).clamp(min=LEAST_PHOTOS)[:, None, None]
    return agree & (agree.sum(1) >= enough)[:, None]


def _thin(rests: Tensor) -> Tensor:
    """What is thin of what `rests` (G, P, S, S) though it was taken for a pusher: stripes, cables, edges of tape.

    What is thick may be an arm that most photos have in one place.
    """
    thin, margin = (round(share * rests.shape[-1]) for share in (THIN, MARGIN))
    return rests & ~grown(~grown(~rests, thin), thin + margin)


def _strays(photos: Tensor, labels: Tensor, blocks: Tensor, rests: Tensor, used: Tensor) -> Tensor:
    """What has the colour of the photo's block, `blocks` (G, P, 3), and does not rest: parts of it that were not found,
    or were called goal, (G, P, S, S).

    None where the bench has nearly that colour, nor in so few photos that nothing can be seen to rest.
    """
    bench = _median_color(photos, ~_moves(labels))
    telling = ((blocks - bench).abs().amax(2) > OTHER_COLOR) & (used.sum(1) >= LEAST_PHOTOS)[:, None]
    like = (photos - blocks[..., None, None]).abs().amax(2) <= BLOCK_COLOR
    return like & ~rests & telling[..., None, None]


def _middle(photos: Tensor, shaded: Tensor, covered: Tensor) -> Tensor:
    """Median of what is not `shaded` (G, P, S, S) in photos (G, P, 3, S, S), (G, 3, S, S); of what is not `covered`
    where all of it is shaded, and NaN where all of it is covered.

    Of two in the middle the brighter one: what one photo shows darker than another is a shadow more often than not.
    """
    clear, dim = (
        -(-photos.masked_fill(hidden[:, :, None], torch.nan)).nanmedian(dim=1).values for hidden in (shaded, covered)
    )
    return torch.where(clear.isfinite(), clear, dim)


def _exposure(photos: Tensor, bench: Tensor, hidden: Tensor) -> Tensor:
    """What photos (G, P, 3, S, S) have in light above a bench (G, 3, S, S), by what is not `hidden` (G, P, S, S) or
    (G, P, 1, 1): (G, P, 3, 1, 1)."""
    return _median_color(photos - bench[:, None], ~hidden).nan_to_num()[..., None, None]


def _median_color(images: Tensor, there: Tensor) -> Tensor:
    """Of what is `there` (G, P, S, S) or (G, P, 1, 1) in images (G, P, 3, S, S), (G, P, 3); NaN where nothing is."""
    return images.masked_fill(~there[:, :, None], torch.nan).flatten(3).nanmedian(dim=3).values


def _filled(images: Tensor) -> Tensor:
    """Images (G, 3, S, S) whose NaN pixels are spread into from their neighbours."""
    known = images.isfinite().all(1, keepdim=True)
    images = images.nan_to_num(0.5)
    known |= ~known.flatten(1).any(1)[:, None, None, None]  # nothing to spread from
    while not known.all():
        weight = F.avg_pool2d(known.to(images.dtype), 3, 1, 1)
        spread = F.avg_pool2d(images * known, 3, 1, 1) / weight.clamp(min=1e-6)
        images = torch.where(known, images, spread)
        known = known | (weight > 0)
    return images


def _colors(photos: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Median colour of each region in each photo, (G, P, R, 3); that of its bench, the median of these, where a photo
    hardly shows it, or shows something else that was taken for it. And where it is the photo's own, (G, P, R)."""
    own_counts = torch.zeros(*photos.shape[:2], len(REGIONS), dtype=torch.bool, device=photos.device)
    colors = torch.zeros(*photos.shape[:2], len(REGIONS), 3, dtype=photos.dtype, device=photos.device)
    for region in MOVING:
        there = labels == region
        inner = ~grown(~there, 1)
        there = torch.where(inner.flatten(2).any(2)[..., None, None], inner, there)
        own = _median_color(photos, there)
        shown = there.flatten(2).float().mean(2) >= LEAST_SHARE
        telling = (shown | ~shown.any(1, keepdim=True))[..., None]
        shared = own.masked_fill(~telling, torch.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num(0.5)
        like = (own - shared).abs().amax(2) <= OTHER_COLOR  # what is NaN is not
        own_counts[:, :, region] = shown & like
        colors[:, :, region] = torch.where(own_counts[:, :, region, None], own, shared)
    return colors, own_counts
