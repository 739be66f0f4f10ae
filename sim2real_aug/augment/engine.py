"""Relabelling a replay buffer: every frame goes through the editor, everything else stays as it is.

The store is built in `OUT.partial` and appears at OUT only when complete. The unit of work is a chunk of
data/img: it is read, edited batch by batch in place, and written as one file, whose presence marks the chunk
as done. So a run killed at any moment is taken up by the same command, and at most one chunk and one batch
of frames are in memory of a process. An engine says which processes fill the units (`units`, `on_ray`).

Legend: N frames, H W pixels of the store, S of the editor, P photos.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from omegaconf import DictConfig
from zarr.storage import LocalStore

from sim2real_aug.augment.carry import carry, keys_to_carry
from sim2real_aug.augment.provenance import differences
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.augment.units import (
    SCORES,
    Engine,
    edited_frames,
    fill_here,
    is_filled,
    require_arrays,
    units_of,
)
from sim2real_aug.augment.work import Photos, Work, photos_of_episode, prepare
from sim2real_aug.config import settings as settings_from
from sim2real_aug.data.replay_buffer import ATTRIBUTE, VERDICT, ReplayBuffer
from sim2real_aug.data.stores import (
    is_store,
    is_url,
    is_zip,
    pack,
    partial_folder,
    refuse_existing,
    remove_leftovers,
    remove_store,
)
from sim2real_aug.devices import resolve_precision
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.progress import progress, say

ENGINES = ("local", "ray")
POOR_PHOTO = 0.5  # share of frames that pass: a photo with less is named


def engine_of(config: DictConfig) -> Engine:
    """The engine of `configs/augment.yaml`. Raises BadInput for an unknown one, and where its extra is missing."""
    if config.engine not in ENGINES:
        raise unknown_name("engine", config.engine, ENGINES)
    if config.engine == "local":
        if config.workers is not None:
            raise BadInput(f"workers={config.workers} is for engine=ray; engine=local is one process")
        return fill_here
    from sim2real_aug.augment.on_ray import RayEngine

    return settings_from(RayEngine, {"workers": config.workers})


def augment(
    dataset: str | Path,
    editor: Any,
    out: str | Path,
    settings: AugmentSettings | None = None,
    photos: Photos | None = None,
    judge: Any = None,
    overwrite: bool = False,
    engine: Engine = fill_here,
) -> dict[str, Any]:
    """Write the edited copy of `dataset` to `out` (a folder, or a .zip) and return a summary (JSON values).

    Frames of any size and ratio are edited at the editor's size, as in its training, and come back at their own; where
    the editor composes its prompts, these are as large as the frames, and only what it changes of them is enlarged.
    photos: visual prompts, the editor's own when None. judge: on the editor's device, scores the edits and feeds the
    gate; without one edit_score is NaN and every edit passes. engine: fills the units, here or elsewhere.

    Besides the images `out` gains data/edit_score (N, 2) float32, structural and semantic, NaN where no edit was made;
    data/edit_ok (N,) bool, true where the frame is an edit that passed the gate, elsewhere it is the original (see
    `keep_refused`); and the root attribute "augmentation".

    An `out` that was finished with the same inputs is left as it is, and its summary returned.

    Raises BadInput before anything is written: a bad store, no photos, any other `out` without `overwrite`, be it
    unfinished. Raises Fault when the editor gives NaN, or the memory ends.
    """
    settings = settings or AugmentSettings()
    settings = replace(settings, precision=resolve_precision(settings.precision, editor.device))
    target, folder = Path(out), partial_folder(out)
    found = _finished(dataset, out, overwrite)
    work, record = prepare(dataset, editor, settings, photos, judge)
    if found is not None:
        _require_same(target, found.attrs[ATTRIBUTE], record)
        say(f"{out} is finished")
        return _summary(work, target, found.read(VERDICT), found.read(SCORES), 0, 0.0)
    root = _take_up(folder, record, overwrite) or _begin(folder, work, record)
    started = time.monotonic()
    n_new = _edit_all(work, root, engine)
    seconds = time.monotonic() - started
    ok, scores = root[f"data/{VERDICT}"][:], root[f"data/{SCORES}"][:]
    pack(folder, target)
    summary = _summary(work, target, ok, scores, n_new, seconds)
    _name_poor_photos(summary["passed_by_photo"], settings.region)
    return summary


def _summary(
    work: Work, out: Path, ok: NDArray[np.bool_], scores: NDArray[np.float32], n_new: int, seconds: float
) -> dict[str, Any]:
    """n_new: frames that were edited now, in `seconds`."""
    return {
        "path": str(out),
        "frames": work.buffer.n_frames,
        "frames_edited": len(work.edited),
        "frames_edited_now": n_new,
        "frames_passed": int(ok.sum()),
        "passed_by_photo": {} if work.scorer is None else _passed_by_photo(work, ok),
        "structural_score": _mean(scores[:, 0]),
        "semantic_score": _mean(scores[:, 1]),
        "seconds": round(seconds, 2),
        "frames_per_second": round(n_new / seconds, 2) if n_new else None,
        "settings": asdict(work.settings),
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


def _finished(dataset: str | Path, out: str | Path, overwrite: bool) -> ReplayBuffer | None:
    """The edited store that is at `out` already and not to be replaced. Raises BadInput where anything else is."""
    if is_url(out):
        raise BadInput(f"{out} is a URL; stores are written to the local disk only")
    if not is_url(dataset) and Path(out).resolve() == Path(dataset).resolve():
        raise BadInput(f"{out} is the dataset itself; choose another --out")
    target = Path(out)
    if not overwrite and target.exists() and (is_zip(target) or is_store(target)):
        found = ReplayBuffer.open(out)
        if ATTRIBUTE in found.attrs and {SCORES, VERDICT} <= {*found.names}:
            return found
    refuse_existing(out, overwrite)
    return None


def _require_same(out: Path, begun: dict[str, Any], record: dict[str, Any]) -> None:
    if changed := differences(begun, record):
        raise BadInput(
            f"{out} exists, edited with another {', '.join(_told(begun, changed))}; choose another path, or "
            "--overwrite to replace it"
        )


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
            f"{folder} is an unfinished augmentation with another {', '.join(_told(begun, changed))}; finish it with "
            "the command that began it, choose another --out, or --overwrite to drop it"
        )
    remove_store(folder)
    return None


def _told(begun: dict[str, Any], changed: list[str]) -> Iterator[str]:
    """Names of settings, with what an unfinished store has where that says something."""
    for name in changed:
        value = begun.get(name)
        yield f"{name} ({value})" if isinstance(value, str | int | float) and not name.endswith("_hash") else name


def _begin(folder: Path, work: Work, record: dict[str, Any]) -> zarr.Group:
    """The new, still empty store: root attributes that say how it is made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(LocalStore(folder), mode="w-", zarr_format=work.buffer.zarr_format)
        root.attrs.update({**work.buffer.attrs, ATTRIBUTE: record})
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}); choose another --out") from error
    return root


def _edit_all(work: Work, root: zarr.Group, engine: Engine) -> int:
    """Fill the store; returns the number of frames edited now (not by an earlier, interrupted run)."""
    units = units_of(work)
    chunks = {key for unit in units for key in unit.keys}
    carried = keys_to_carry(work.buffer.group, (f"data/{SCORES}", f"data/{VERDICT}"))
    carry(work.buffer.group, LocalStore(root.store.root), [key for key in carried if key not in chunks])
    require_arrays(work, root)
    missing = [unit for unit in units if not is_filled(work, root, unit)]
    left = sum(len(edited_frames(work, unit)) for unit in missing)
    done = 0
    with progress("augment", len(work.edited), done=len(work.edited) - left, unit="frames") as bar:
        for size in engine(work, root, missing):
            bar.advance(size)
            done += size
    return done
