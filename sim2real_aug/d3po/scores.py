"""Scores of edits by AI judges. Both are distances: LOWER IS BETTER.

L_struct = mean |depth(I_og) - depth(I_gen)|
L_sem    = D(m_og * I_gen, m_sty * I_sty) + lambda * mean over the outside of m_og of ||I_og - I_gen||_2

with D the cosine distance between embeddings of masked regions. The paper's formula prints I_og in D, which
would not depend on the edit; its text says the generated image, and so do we.

Of simulated frames labels and depth are known exactly: with them a score compares the edit with the truth, not
with the judge's estimate of the source, whose errors no edit can mend.

Legend: C conditions, K edits I_gen of each, n photos I_sty of each, U that differ, R regions, H W pixels; images
float32 in [0, 1]; masks bool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.regions import REGIONS, is_pusher, is_region, object_phrase, region_of
from sim2real_aug.editor.composition import Composer, Seen
from sim2real_aug.judges.base import EmbeddingJudge, Judge
from sim2real_aug.judges.photo_check import is_shown

K = TypeVar("K")


@dataclass(frozen=True)
class SourceGeometry:
    """labels: (C, H, W) uint8, index into REGIONS. depth: (C, H, W) float32, as `relative_depth` scales it."""

    labels: Tensor
    depth: Tensor

    @classmethod
    def on(cls, device: torch.device, geometry: FrameGeometry) -> SourceGeometry:
        """`geometry` as tensors on `device`."""
        return cls(*(torch.from_numpy(part).to(device) for part in (geometry.labels, geometry.depth)))

    def mask(self, phrase: str) -> Tensor:
        """(C, H, W) bool."""
        return self.labels == REGIONS.index(region_of(phrase))


@dataclass(frozen=True)
class Conditions:
    """What edits are made from.

    source: (C, 3, H, W). photos: (C, n, 3, H, W). photo_masks: (C, n, H, W), where the object is in a photo
    whose owner outlined it, all False in the others. numbers: (C,) place of each in its list. geometry: of the
    source, None where it is not known. prompts: images (C, n, 3, H, W), what an editor that composes is shown in place
    of the photos; scores leave out where their pusher covers the source.
    """

    source: Tensor
    photos: Tensor
    photo_masks: Tensor
    numbers: NDArray[np.int64]
    geometry: SourceGeometry | None = None
    prompts: Seen | None = None

    @property
    def visual_prompts(self) -> Tensor:
        """What the editor is shown, (C, n, 3, H, W)."""
        return self.photos if self.prompts is None else self.prompts.images

    @property
    def covered(self) -> Tensor:
        """(C, H, W) bool, where the edit is to show the prompt's pusher, whatever the source shows there."""
        frames = self.source[:, 0]
        return torch.zeros_like(frames, dtype=torch.bool) if self.prompts is None else self.prompts.covered


def composed_prompts(
    composer: Composer, chosen: Tensor, source: Tensor, geometry: SourceGeometry | None
) -> Seen:
    """The `prompts` of conditions by photos `chosen` (C, n)."""
    return composer(chosen, source, None if geometry is None else geometry.labels)


@dataclass(frozen=True)
class Scores:
    """structural, semantic: (C, K) float32, lower is better."""

    structural: Tensor
    semantic: Tensor

    @staticmethod
    def join(parts: Sequence[Scores]) -> Scores:
        """The conditions of several as one."""
        structural, semantic = ([getattr(part, f.name) for part in parts] for f in fields(Scores))
        return Scores(torch.cat(structural), torch.cat(semantic))


class Scorer(Protocol):
    def __call__(self, conditions: Conditions, edits: Tensor) -> Scores:
        """Scores (C, K) of edits (C, K, 3, H, W)."""


@dataclass(frozen=True)
class PhotoReadings:
    """What the judges read off photos, by their content: masks (R, H, W), and embeddings (D,) of each region."""

    masks: dict[str, Tensor] = field(default_factory=dict)
    embeddings: dict[tuple[int, str], Tensor] = field(default_factory=dict)  # by (region, photo)


@dataclass(frozen=True)
class JudgedScores:
    """The Scorer of the method: structural_score and semantic_score as `judge` sees them.

    regions: phrases that the segmentation judge is asked for. lambda_outside: the paper's lambda, 0.05.
    """

    judge: Judge
    regions: Sequence[str]
    lambda_outside: float = 0.05
    readings: PhotoReadings = field(default_factory=PhotoReadings, init=False, repr=False, compare=False)

    @torch.no_grad()
    def __call__(self, conditions: Conditions, edits: Tensor) -> Scores:
        """See Scorer."""
        exact, source = conditions.geometry, conditions.source
        depth = self.judge.depth(source) if exact is None else exact.depth
        edit_depth = self.judge.depth(edits.flatten(0, 1)).unflatten(0, edits.shape[:2])
        source_masks = torch.stack([source_mask(self.judge, conditions, phrase) for phrase in self.regions])
        covered = conditions.covered
        outside = outside_distance(source, edits, inside=source_masks.any(0) | covered)
        keys, first, place = _distinct(conditions.photos, conditions.photo_masks)
        photos, given = (part.flatten(0, 1)[first] for part in (conditions.photos, conditions.photo_masks))
        read = partial(self._read_masks, photos, given)
        photo_masks = torch.stack(_remembered(self.readings.masks, keys, read), dim=1)
        distance = region_distance(self.judge, photos, edits, source_masks, photo_masks, place, keys, self.readings)
        return Scores(structural_score(depth, edit_depth, ~covered), distance + self.lambda_outside * outside)

    def _read_masks(self, photos: Tensor, given: Tensor, rows: slice) -> Tensor:
        """As `_photo_masks`, of some of the photos, photo by photo: (C, R, H, W)."""
        return self._photo_masks(photos[rows], given[rows]).transpose(0, 1)

    def _photo_masks(self, photos: Tensor, given: Tensor) -> Tensor:
        """m_sty of each region, (R, C, H, W), in photos (C, 3, H, W): what the judge finds, but where a mask is
        given (C, H, W) the object is there, and nothing else is. Specks of an object are none."""
        outlined, thing = given.flatten(1).any(1)[:, None, None], object_phrase(self.regions)
        masks = []
        for phrase in self.regions:
            found = self.judge.segment(photos, phrase)
            if phrase == thing:
                found = found & is_shown(found, phrase)[:, None, None]
            masks.append(torch.where(outlined, given if phrase == thing else found & ~given, found))
        return torch.stack(masks)


def _remembered(known: dict[K, Tensor], keys: list[K], read: Callable[[slice], Tensor]) -> list[Tensor]:
    """What is known of each key; `read` gives the row at a place in `keys`, as a batch of one.

    One at a time, so that a reading, to the last bit, does not depend on the minibatch that asked for it first.
    """
    for place, key in enumerate(keys):
        if key not in known:
            known[key] = read(slice(place, place + 1))[0]
    return [known[key] for key in keys]


def _content(photo: Tensor, mask: Tensor) -> str:
    """What tells a photo (3, H, W) with its mask (H, W) from others, whatever its number: a scorer may serve several
    folders of photos."""
    parts = (part.detach().cpu().contiguous().numpy().tobytes() for part in (photo, mask))
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _distinct(photos: Tensor, masks: Tensor) -> tuple[list[str], Tensor, Tensor]:
    """The U that differ among photos (C, n, 3, H, W) with masks (C, n, H, W): their keys, (U,) where each comes first
    in (C * n), and (C, n) which of the U each is."""
    pairs = zip(photos.flatten(0, 1), masks.flatten(0, 1), strict=True)
    keys, *where = np.unique([_content(*pair) for pair in pairs], return_index=True, return_inverse=True)
    first, place = (torch.from_numpy(part).to(photos.device) for part in where)
    return keys.tolist(), first, place.unflatten(0, photos.shape[:2])


def source_region(judge: Judge, conditions: Conditions, phrase: str) -> Tensor:
    """Where `phrase` is in the source, (C, H, W) bool; exact where the geometry is known and knows the phrase."""
    exact = conditions.geometry
    return exact.mask(phrase) if exact is not None and is_region(phrase) else judge.segment(conditions.source, phrase)


def source_mask(judge: Judge, conditions: Conditions, phrase: str) -> Tensor:
    """m_og: where an edit is to show the source's `phrase`, (C, H, W) bool.

    What a pusher of the prompt covers is the pusher's, and no other region's; of a block that it hides nothing is left.
    """
    found, covered = source_region(judge, conditions, phrase), conditions.covered
    if is_pusher(phrase):
        return found | covered
    seen, hidden = left_uncovered(found, covered, phrase)
    return seen & ~hidden[:, None, None]


def left_uncovered(found: Tensor, covered: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
    """What a pusher that is `covered` leaves of a region that was `found`, both (C, H, W), and whether it hides the
    region: too little is left to be shown, (C,)."""
    seen = found & ~covered
    return seen, (found & covered).flatten(1).any(1) & ~is_shown(seen, phrase)


def structural_score(source_depth: Tensor, edit_depth: Tensor, compared: Tensor) -> Tensor:
    """L_struct over the pixels that are `compared` (C, H, W) bool: (C, H, W), (C, K, H, W) -> (C, K), in the depth
    judge's unit."""
    apart = (source_depth[:, None] - edit_depth).abs() * compared[:, None]
    return apart.flatten(2).sum(-1) / compared.flatten(1).sum(-1).clamp(min=1)[:, None]


def outside_distance(source: Tensor, edits: Tensor, inside: Tensor) -> Tensor:
    """Mean over the pixels outside `inside` of the colour distance ||I_og - I_gen||_2: (C, K).

    source (C, 3, H, W), edits (C, K, 3, H, W), inside (C, H, W). The norm runs over the colour channels. With
    nothing outside (the whole frame is to be edited) the term is 0: there is nothing to keep.
    """
    distance = torch.linalg.vector_norm(source[:, None] - edits, dim=2)
    outside = ~inside[:, None]
    return (distance * outside).flatten(2).sum(-1) / outside.flatten(2).sum(-1).clamp(min=1)


def region_distance(
    judge: EmbeddingJudge, photos: Tensor, edits: Tensor, source_masks: Tensor, photo_masks: Tensor, place: Tensor,
    keys: list[str] | None = None, known: PhotoReadings | None = None,
) -> Tensor:  # fmt: skip
    """D averaged over the regions that are found both in the source and in the visual prompt, and over photos: (C, K).

    photos (U, 3, H, W), the conditions' are photos[place], place (C, n); edits (C, K, 3, H, W), source_masks
    (R, C, H, W), photo_masks (R, U, H, W). The edit is masked where the SOURCE has the region, so that moving it
    costs. Where no region is found in both, the whole frames are compared. known: embeddings of the photos that were
    read before, by `keys` (U,), what tells photos apart.
    """
    keys, known = keys or [str(index) for index in range(len(photos))], known or PhotoReadings()
    found = source_masks.flatten(2).any(-1)[..., None] & photo_masks.flatten(2).any(-1)[:, place]  # (R, C, n)
    found = torch.cat([found, ~found.any(0, keepdim=True)])  # the whole frame is a region of its own
    source_masks, photo_masks = (
        torch.cat([masks, torch.ones_like(masks[:1])]) for masks in (source_masks, photo_masks)
    )
    total = edits.new_zeros(*place.shape, edits.shape[1])  # (C, n, K)
    for region, (both, m_og, m_sty) in enumerate(zip(found, source_masks, photo_masks, strict=True)):
        rows = both.any(1)
        if not rows.any():
            continue
        whole_for_none = m_sty | ~m_sty.flatten(1).any(1)[:, None, None]  # where it is not found it does not count
        read = partial(_embed_some, judge, photos, whole_for_none)
        seen = torch.stack(_remembered(known.embeddings, [(region, key) for key in keys], read))[place[rows]]
        edited = _embed_edits(judge, edits[rows], m_og[rows])
        apart = 1 - F.cosine_similarity(edited[:, None], seen[:, :, None], dim=-1)
        total[rows] += torch.where(both[rows, :, None], apart, 0)
    return (total / found.sum(0)[..., None]).mean(1)


def _embed_some(judge: EmbeddingJudge, photos: Tensor, masks: Tensor, rows: slice) -> Tensor:
    return judge.embed(photos[rows], masks[rows])


def _embed_edits(judge: EmbeddingJudge, edits: Tensor, masks: Tensor) -> Tensor:
    """(C, K, D) of edits (C, K, 3, H, W), each within its condition's mask (C, H, W)."""
    group = edits.shape[1]
    return judge.embed(edits.flatten(0, 1), masks.repeat_interleave(group, 0)).unflatten(0, (-1, group))
