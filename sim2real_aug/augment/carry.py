"""Copying the untouched part of a store as raw bytes: what is not decoded cannot change."""

from __future__ import annotations

from collections.abc import Iterable

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
    """Copy the bytes at `keys`, one key in memory at a time. What is there already is kept.

    The local store writes a temporary file and renames it, so a key that is there is whole.
    """
    prefix = f"{source.path}/" if source.path else ""

    async def copy(key: str) -> None:
        if await target.exists(key):
            return
        value = await source.store.get(prefix + key, default_buffer_prototype())
        if value is not None:
            await target.set(key, value)

    for key in keys:
        with reading(f"{source.store}/{key}"):
            sync(copy(key))
