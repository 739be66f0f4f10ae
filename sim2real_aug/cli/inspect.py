"""`sim2real-aug inspect PATH`: what a store, a run folder, an editor's checkpoint or a folder of photos holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location, show_summary
from sim2real_aug.errors import BadInput


def show(summary: Summary) -> None:
    """Scalars first, then a line for each array, attribute or figure."""
    show_summary(summary)
    for title in ("arrays", "attributes", "last_metrics", "summary", "components"):
        if summary.get(title):
            typer.echo(f"{title.replace('_', ' ')}:")
            for name, value in summary[title].items():
                record = isinstance(value, Mapping)
                text = "  ".join(f"{k} {v}" for k, v in value.items()) if record else value
                typer.echo(f"  {name:24} {text}")


@command("inspect", show=show)
def inspect(
    call: Call,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A store (folder, zip, URL), run, checkpoint, photos.")],
) -> Summary:
    """Say what a store, a run, a checkpoint or a folder of photos holds.

    A damaged store is an error, and so is what `--photos` would refuse.

    Example: sim2real-aug inspect sim.zarr
    """
    from sim2real_aug.data.photos import is_photo
    from sim2real_aug.data.stores import PARTIAL, is_store

    place = location(path)
    if isinstance(place, Path):
        if not place.exists():
            raise BadInput(f"{path} does not exist: give a store, a run folder or a checkpoint")
        if place.name.endswith(PARTIAL):
            raise BadInput(f"{path} is unfinished: the command that began it, run again, goes on")
        if (place / "photos.yaml").is_file():
            return _photos(place)
        if (place / "model_index.json").is_file():
            return _checkpoint(place)
        if (place / "config.yaml").is_file():
            return _run(place)
        if not is_store(place) and place.is_dir() and any(map(is_photo, place.iterdir())):
            return _photos(place)
    return _store(place)


def _store(place: str | Path) -> Summary:
    from sim2real_aug.data import ReplayBuffer

    buffer = ReplayBuffer.open(place)
    lengths = [int(n) for n in buffer.episode_ends - [0, *buffer.episode_ends[:-1]]]
    arrays = {}
    for name in buffer.names:
        array = buffer.array(name)
        arrays[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "chunks": list(array.chunks)}
    return {
        "kind": "replay buffer",
        "path": str(place),
        "n_episodes": buffer.n_episodes,
        "n_frames": buffer.n_frames,
        "shortest_episode": min(lengths, default=0),
        "longest_episode": max(lengths, default=0),
        "arrays": arrays,
        "attributes": dict(buffer.attrs),
    }


def _photos(place: Path) -> Summary:
    from sim2real_aug.data.photos import load_photos

    photos = load_photos(place)
    return {
        "kind": "photos",
        "path": str(place),
        "photos": len(photos),
        "with_a_mask": len(photos.masks or {}),
        "corners": "photos.yaml" if (place / "photos.yaml").is_file() else "none",
    }


def _run(place: Path) -> Summary:
    from sim2real_aug.runs import RunFolder

    run = RunFolder(place)
    summary, metrics = run.summary(), run.metrics()
    return {
        "kind": "run",
        "path": str(place),
        "finished": "no" if summary is None else "yes",
        "checkpoints": len(list(run.checkpoints.iterdir())) if run.checkpoints.is_dir() else 0,
        "last_metrics": metrics[-1] if metrics else {},
        "summary": summary or {},
    }


def _checkpoint(place: Path) -> Summary:
    from sim2real_aug.data.photos import kept_photos
    from sim2real_aug.editor.architecture import pipeline_class, read_index

    index = read_index(place)
    size = sum(file.stat().st_size for file in place.rglob("*.safetensors"))
    parts = {name: value for name, value in index.items() if isinstance(value, list) and name[0] != "_"}
    return {
        "kind": f"checkpoint of {pipeline_class(index)}",
        "path": str(place),
        "weights_MB": round(size / 1e6, 2),
        "photos": len(kept_photos(place / "photos")),
        "components": {name: " ".join(map(str, value)) for name, value in parts.items()},
    }
