"""Relabelling a replay buffer: every frame goes through the editor, everything else stays as it is.

The store is built in `OUT.partial` and appears at OUT only when complete. The unit of work is a chunk of
data/img: it is read, edited batch by batch in place, and written as one file, whose presence marks the chunk
as done. So a run killed at any moment is taken up by the same command, and at most one chunk and one batch
of frames are in memory. The edit of a frame depends on (editor, settings, seed, episode, frame) only.

Legend: N frames, B frames of a batch, H W pixels of the store, S of the editor, P photos.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from sim2real_aug.augment.carry import carry, keys_to_carry
from sim2real_aug.augment.gate import Verdict, judge_edits
from sim2real_aug.augment.provenance import differences
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.augment.work import Photos, Work, edits_any_size, photos_of_episode, prepare
from sim2real_aug.d3po.scores import Conditions, SourceGeometry, composed_prompts
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.replay_buffer import ATTRIBUTE, to_uint8
from sim2real_aug.data.stores import (
    chunk_keys,
    create_array,
    is_url,
    pack,
    partial_folder,
    refuse_existing,
    remove_leftovers,
    remove_store,
    time_chunk,
    writable,
)
from sim2real_aug.devices import autocast, memory_advice, resolve_precision
from sim2real_aug.editor.composition import with_change
from sim2real_aug.errors import BadInput, Fault
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.progress import progress, say
from sim2real_aug.seeding import torch_generator

SCORES, VERDICT = "edit_score", "edit_ok"
POOR_PHOTO = 0.5  # share of frames that pass: a photo with less is named


def augment(
    dataset: str | Path,
    editor: Any,
    out: str | Path,
    settings: AugmentSettings | None = None,
    photos: Photos | None = None,
    judge: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the edited copy of `dataset` to `out` (a folder, or a .zip) and return a summary (JSON values).

    Frames of any size and ratio are edited at the editor's size, as in its training, and come back at their own; where
    the editor composes its prompts, these are as large as the frames, and only what it changes of them is enlarged.
    photos: visual prompts, the editor's own when None. judge: on the editor's device, scores the edits and feeds the
    gate; without one edit_score is NaN and every edit passes. Besides the images `out` gains data/edit_score (N, 2)
    float32, structural and semantic, NaN where no edit was made; data/edit_ok (N,) bool, true where the frame
    is an edit that passed the gate, elsewhere it is the original (see `keep_refused`); and the root attribute
    "augmentation".

    Raises BadInput before anything is written: a bad store, no photos, an existing `out` without `overwrite`,
    or an unfinished `out` of other settings. Raises Fault when the editor gives NaN, or the memory ends.
    """
    settings = settings or AugmentSettings()
    settings = replace(settings, precision=resolve_precision(settings.precision, editor.device))
    target, folder = Path(out), partial_folder(out)
    _refuse_target(dataset, out, overwrite)
    work, record = prepare(dataset, editor, settings, photos, judge)
    root = _take_up(folder, record, overwrite) or _begin(folder, work, record)
    started = time.monotonic()
    n_new = _edit_all(work, root)
    seconds = time.monotonic() - started
    ok, scores = root[f"data/{VERDICT}"][:], root[f"data/{SCORES}"][:]
    pack(folder, target)
    by_photo = {} if judge is None else _passed_by_photo(work, ok)
    _name_poor_photos(by_photo, settings.region)
    return {
        "path": str(out),
        "frames": work.buffer.n_frames,
        "frames_edited": len(work.edited),
        "frames_edited_now": n_new,
        "frames_passed": int(ok.sum()),
        "passed_by_photo": by_photo,
        "structural_score": _mean(scores[:, 0]),
        "semantic_score": _mean(scores[:, 1]),
        "seconds": round(seconds, 2),
        "frames_per_second": round(n_new / seconds, 2) if n_new else None,
        "settings": asdict(settings),
    }


def _passed_by_photo(work: Work, ok: NDArray[np.bool_]) -> dict[str, float]:
    """The share of the frames edited after each photo that passed the gate, of photos that an episode drew."""
    buffer, passed = work.buffer, dict[str, list[NDArray[np.bool_]]]()
    first, last = buffer.episode_of(np.array([work.edited.start, work.edited.stop - 1]))
    for episode in range(first, last + 1):
        for photo in photos_of_episode(work.settings.seed, episode, len(work.photos), work.photos_per_edit):
            passed.setdefault(work.photo_names[photo], []).append(ok[buffer.episode(episode)])
    return {name: float(np.concatenate(parts).mean()) for name, parts in sorted(passed.items())}


def _name_poor_photos(by_photo: dict[str, float], region: str) -> None:
    poor = [f"{name} ({share:.0%})" for name, share in by_photo.items() if share < POOR_PHOTO]
    if poor and len(poor) == len(by_photo) > 1:
        say(
            f"few edits pass the gate, whatever the photo ({', '.join(poor)}): original frames stay there; "
            f"keep_refused=true stores the edits too, to see whether the editor loses the {region} or the judge does"
        )
    elif poor:
        say(
            f"few edits after {', '.join(poor)} pass the gate: original frames stay there; leave such photos out, or "
            f"take others that show the {region} in full"
        )


def _mean(scores: NDArray[np.float32]) -> float | None:
    return None if np.isnan(scores).all() else float(np.nanmean(scores))


def _refuse_target(dataset: str | Path, out: str | Path, overwrite: bool) -> None:
    if is_url(out):
        raise BadInput(f"{out} is a URL; stores are written to the local disk only")
    if not is_url(dataset) and Path(out).resolve() == Path(dataset).resolve():
        raise BadInput(f"{out} is the dataset itself; choose another --out")
    refuse_existing(out, overwrite)


def _take_up(folder: Path, record: dict[str, Any], overwrite: bool) -> zarr.Group | None:
    """The unfinished store at `folder` when it was begun with the same `record`; None when there is none.

    An unfinished store of other settings is refused, or removed when `overwrite`.
    """
    if not folder.exists():
        return None
    refuse_existing(folder, overwrite=True)  # something that is no store is never touched
    try:
        root = zarr.open_group(LocalStore(folder), mode="r+")
        begun = root.attrs.get(ATTRIBUTE)
    except (OSError, ValueError, KeyError):
        begun = None
    if begun is not None and not (changed := differences(begun, record)):
        say(f"continuing {folder}")
        remove_leftovers(folder)
        return root
    if begun is not None and not overwrite:
        raise BadInput(
            f"{folder} is an unfinished augmentation with another {', '.join(changed)}; finish it with the "
            "command that began it, choose another --out, or --overwrite to drop it"
        )
    remove_store(folder)
    return None


def _begin(folder: Path, work: Work, record: dict[str, Any]) -> zarr.Group:
    """The new, still empty store: root attributes that say how it is made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(LocalStore(folder), mode="w-", zarr_format=work.buffer.zarr_format)
        root.attrs.update({**work.buffer.attrs, ATTRIBUTE: record})
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}); choose another --out") from error
    return root


def _edit_all(work: Work, root: zarr.Group) -> int:
    """Fill the store; returns the number of frames edited now (not by an earlier, interrupted run)."""
    image = f"data/{work.settings.image_name}"
    source = work.buffer.array(work.settings.image_name)
    n_frames, step = work.buffer.n_frames, time_chunk(source)
    store = LocalStore(root.store.root)
    keys = keys_to_carry(work.buffer.group, (f"data/{SCORES}", f"data/{VERDICT}"))
    span = _span(work)
    units = {start: _keys(source, image, start, min(start + span, n_frames)) for start in range(0, n_frames, span)}
    chunks = {key for unit in units.values() for key in unit}
    carry(work.buffer.group, store, [key for key in keys if key not in chunks])
    _require_arrays(root["data"], n_frames, step)
    target = writable(root[image])
    done = 0
    with progress("augment", len(work.edited), unit="frames") as bar:
        for start, unit in units.items():
            stop = min(start + span, n_frames)
            n_edited = len(range(max(start, work.edited.start), min(stop, work.edited.stop)))
            if all((Path(store.root) / key).exists() for key in unit):
                bar.advance(n_edited)
                continue
            scores, ok = np.full((stop - start, 2), np.nan, np.float32), np.zeros(stop - start, bool)
            if n_edited:
                frames = work.buffer.read(work.settings.image_name, start, stop)
                for size in _edit_unit(work, frames, start, scores, ok):
                    bar.advance(size)
            writable(root[f"data/{SCORES}"])[start:stop] = scores
            writable(root[f"data/{VERDICT}"])[start:stop] = ok
            if n_edited:
                target[start:stop] = frames
                done += n_edited
            else:
                carry(work.buffer.group, store, unit)
    return done


def _span(work: Work) -> int:
    """Frames of a unit of work: whole time-chunks of the images, as many as fill one pass through the editor."""
    step = time_chunk(work.buffer.array(work.settings.image_name))
    return step * -(-min(work.settings.batch_size, work.buffer.n_frames) // step)


def _keys(source: zarr.Array, image: str, start: int, stop: int) -> list[str]:
    """Keys of the image chunks of frames start to stop, relative to the root group."""
    step = time_chunk(source)
    indices = range(start // step, -(-stop // step))
    return [image + "/" + key.removeprefix(f"{source.path}/") for i in indices for key in chunk_keys(source, i)]


def _require_arrays(data: zarr.Group, n_frames: int, step: int) -> None:
    for name, shape, dtype in ((SCORES, (n_frames, 2), np.float32), (VERDICT, (n_frames,), np.bool_)):
        if name not in data:
            create_array(data, name, shape, np.dtype(dtype), step)


def pass_size(span: int, batch_size: int) -> int:
    """Frames of every pass through the editor: a unit split evenly into passes of at most `batch_size`.

    One size for all passes, short ones being padded: kernels chosen for another size round differently, which
    would make a frame depend on how many others are edited with it.
    """
    return -(-span // -(-span // batch_size))


def _edit_unit(
    work: Work, frames: NDArray[Any], start: int, scores: NDArray[np.float32], ok: NDArray[np.bool_]
) -> Iterator[int]:
    """Edit the frames (n, H, W, 3) from number `start` on in place, batch by batch; yields batch sizes."""
    stop = start + len(frames)
    first, last = max(start, work.edited.start), min(stop, work.edited.stop)
    size = pass_size(_span(work), work.settings.batch_size)
    place = f"{work.buffer.path}/data/{work.settings.image_name} [{start}:{stop}]"
    for begin in range(first, last, size):
        n = min(size, last - begin)
        numbers = np.minimum(np.arange(begin, begin + size), last - 1)  # the last frame fills a short pass
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
