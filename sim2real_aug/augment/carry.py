"""Copying the untouched part of a store as raw bytes: what is not decoded cannot change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync  # stores are asynchronous; this is zarr's own event loop
from zarr.storage import LocalStore

from sim2real_aug.data.stores import reading

ROOT_DOCUMENTS = (".zgroup", ".zattrs", ".zmetadata", "zarr.json")


def keys_to_carry(source: zarr.Group, replaced: Iterable[str]) -> list[str]:
    """Every key of the store but the root's documents and the chunks of the arrays `replaced`."""
    prefix = f"{source.path}/" if source.path else ""
    stale = tuple(f"{name}/" for name in replaced)

    async def listed() -> list[str]:
        return [key async for key in source.store.list_prefix(prefix)]

    keys = (key.removeprefix(prefix) for key in sync(listed()))
    return sorted(key for key in keys if key not in ROOT_DOCUMENTS and not key.startswith(stale))


def carry(source: zarr.Group, target: LocalStore, keys: Iterable[str]) -> None:
    """Copy the bytes at `keys`, one key in memory at a time. What is there already is kept, but where a file of the
    source has been written since.

    The local store writes a temporary file and renames it, so a key that is there is whole.
    """
    prefix = f"{source.path}/" if source.path else ""
    for key in keys:
        if is_current(source, target, key):
            continue
        with reading(f"{source.store}/{key}"):
            value = sync(source.store.get(prefix + key, default_buffer_prototype()))
        if value is not None:
            sync(target.set(key, value))


def is_current(source: zarr.Group, target: LocalStore, key: str) -> bool:
    """Whether `target` has what it needs of a key, which no file of the source is newer than."""
    copy = Path(target.root, key)
    if not copy.exists():
        return False
    original = Path(source.store.root, source.path, key) if isinstance(source.store, LocalStore) else None
    return original is None or not original.exists() or original.stat().st_mtime_ns <= copy.stat().st_mtime_ns
