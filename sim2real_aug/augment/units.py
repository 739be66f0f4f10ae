"""Units of an augmentation: whole chunks of images, each read, edited batch by batch, and written by itself.

The edit of a frame depends on (editor, settings, seed, episode, frame) only, so units may be filled in any order, by
one process or several, and a chunk that is there is done.

Legend: N frames, B frames of a batch, H W pixels of the store, S of the editor, P photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from sim2real_aug.augment.carry import carry, is_current
from sim2real_aug.augment.gate import Verdict, judge_edits
from sim2real_aug.augment.work import Work, edits_any_size, photos_of_episode
from sim2real_aug.d3po.scores import Conditions, SourceGeometry, composed_prompts
from sim2real_aug.data.frames import to_uint8
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.replay_buffer import VERDICT
from sim2real_aug.data.stores import chunk_keys, create_array, time_chunk, writable
from sim2real_aug.devices import autocast, memory_advice
from sim2real_aug.editor.composition import with_change
from sim2real_aug.errors import Fault
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.seeding import torch_generator

SCORES = "edit_score"


@dataclass(frozen=True)
class Unit:
    """frames: numbers of a store's. keys: of the chunks of images that hold them, relative to the root group."""

    frames: range
    keys: tuple[str, ...]


Engine = Callable[[Work, zarr.Group, Sequence[Unit]], Iterable[int]]  # fills units; gives frames edited, as they are


def units_of(work: Work) -> list[Unit]:
    source, span = work.buffer.array(work.settings.image_name), _span(work)
    starts = range(0, work.buffer.n_frames, span)
    each = [range(start, min(start + span, work.buffer.n_frames)) for start in starts]
    return [Unit(frames, _keys(source, f"data/{work.settings.image_name}", frames)) for frames in each]


def is_filled(work: Work, root: zarr.Group, unit: Unit) -> bool:
    return all(is_current(work.buffer.group, LocalStore(root.store.root), key) for key in unit.keys)


def edited_frames(work: Work, unit: Unit) -> range:
    """Those of a unit that the editor gets."""
    return range(max(unit.frames.start, work.edited.start), min(unit.frames.stop, work.edited.stop))


def require_arrays(work: Work, root: zarr.Group) -> None:
    """Create the arrays of scores and verdicts that are not there."""
    step = time_chunk(work.buffer.array(work.settings.image_name))
    for name, shape, dtype in ((SCORES, (2,), np.float32), (VERDICT, (), np.bool_)):
        if name not in root["data"]:
            create_array(root["data"], name, (work.buffer.n_frames, *shape), np.dtype(dtype), step)


def fill_here(work: Work, root: zarr.Group, units: Sequence[Unit]) -> Iterator[int]:
    """The engine `local`: unit after unit, in this process."""
    for unit in units:
        yield from fill(work, root, unit)


def fill(work: Work, root: zarr.Group, unit: Unit) -> Iterator[int]:
    """Write a unit's images, scores and verdicts; yields the sizes of its batches. The images come last, and are as
    they were where none is to be edited."""
    start, stop = unit.frames.start, unit.frames.stop
    scores, ok = np.full((stop - start, 2), np.nan, np.float32), np.zeros(stop - start, bool)
    frames = None
    if edited_frames(work, unit):
        frames = work.buffer.read(work.settings.image_name, start, stop)
        yield from _edit_unit(work, unit, frames, scores, ok)
    writable(root[f"data/{SCORES}"])[start:stop] = scores
    writable(root[f"data/{VERDICT}"])[start:stop] = ok
    if frames is None:
        carry(work.buffer.group, LocalStore(root.store.root), unit.keys)
    else:
        writable(root[f"data/{work.settings.image_name}"])[start:stop] = frames


def _span(work: Work) -> int:
    """Frames of a unit of work: whole time-chunks of the images, as many as fill one pass through the editor."""
    step = time_chunk(work.buffer.array(work.settings.image_name))
    return step * -(-min(work.settings.batch_size, work.buffer.n_frames) // step)


def _keys(source: zarr.Array, image: str, frames: range) -> tuple[str, ...]:
    step = time_chunk(source)
    indices = range(frames.start // step, -(-frames.stop // step))
    return tuple(image + "/" + key.removeprefix(f"{source.path}/") for i in indices for key in chunk_keys(source, i))


def pass_size(span: int, batch_size: int) -> int:
    """Frames of every pass through the editor: a unit split evenly into passes of at most `batch_size`.

    One size for all passes, short ones being padded: kernels chosen for another size round differently, which
    would make a frame depend on how many others are edited with it.
    """
    return -(-span // -(-span // batch_size))


def _edit_unit(
    work: Work, unit: Unit, frames: NDArray[Any], scores: NDArray[np.float32], ok: NDArray[np.bool_]
) -> Iterator[int]:
    """Edit a unit's frames (n, H, W, 3) in place, batch by batch; yields batch sizes."""
    start, edited = unit.frames.start, edited_frames(work, unit)
    size = pass_size(_span(work), work.settings.batch_size)
    place = f"{work.buffer.path}/data/{work.settings.image_name} [{start}:{unit.frames.stop}]"
    for begin in edited[::size]:
        n = min(size, edited.stop - begin)
        numbers = np.minimum(np.arange(begin, begin + size), edited.stop - 1)  # the last frame fills a short pass
        with memory_advice("batch_size", size, also="--overwrite"):
            edits, verdict = _edit_batch(work, to_uint8(frames[numbers - start], place), numbers)
        rows = slice(begin - start, begin - start + n)
        ok[rows] = True if verdict is None else verdict.ok[:n]
        stored = ok[rows] | work.settings.keep_refused
        frames[rows][stored] = edits[:n][stored]
        if verdict is not None:
            scores[rows] = verdict.scores[:n]
        yield n


def _geometry(work: Work, measured: FrameGeometry | None, size: int | tuple[int, int]) -> SourceGeometry | None:
    return None if measured is None else SourceGeometry.on(work.editor.device, measured.resized(size))


@torch.no_grad()
def _edit_batch(
    work: Work, frames: NDArray[np.uint8], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], Verdict | None]:
    """Edit frames (B, H, W, 3) uint8, numbers (B,) of the store; the verdict is None without judge."""
    editor, seed = work.editor, work.settings.seed
    episodes, position = np.unique(work.buffer.episode_of(numbers), return_inverse=True)
    noise = [editor.initial_latents(1, torch_generator(seed, "noise", int(e))) for e in episodes]
    choice = [photos_of_episode(seed, int(e), len(work.photos), work.photos_per_edit) for e in episodes]
    chosen = torch.from_numpy(np.stack(choice)[position]).to(editor.device)
    exact = None if work.geometry is None else work.geometry(numbers)
    own_size = to_images(frames).to(editor.device)
    source = resized(own_size, editor.image_size)
    whole = None
    if work.composer is not None:
        exact_there = _geometry(work, exact, work.prompt_size)
        whole = composed_prompts(work.composer, chosen, resized(own_size, work.prompt_size), exact_there)
    conditions = Conditions(
        source=source,
        photos=work.photos[chosen],
        photo_masks=work.photo_masks[chosen],
        numbers=numbers,
        geometry=_geometry(work, exact, editor.image_size),
        prompts=None if whole is None else whole.resized(editor.image_size),
    )
    with autocast(editor.device, work.settings.precision):
        latents = torch.cat(noise)[position].to(editor.device)
        given = own_size if edits_any_size(editor) else source
        edits = editor.edit(given, conditions.visual_prompts, latents).float()
    if whole is not None:
        edits = with_change(whole.images, conditions.visual_prompts, edits)
    if not torch.isfinite(edits).all():
        raise Fault(f"the editor gives NaN for frames {numbers[0]} to {numbers[-1]}; choose another editor")
    shown = to_frames(resized(edits, frames.shape[1:3]))
    if work.scorer is None:
        return shown, None
    judged = resized(to_images(shown), editor.image_size).to(editor.device)  # what is stored is judged
    return shown, judge_edits(conditions, judged, work.scorer, work.settings)
