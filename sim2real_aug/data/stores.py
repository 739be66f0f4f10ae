"""Zarr stores: opening (formats 2 and 3; folder, zip file or fsspec URL), checking, packing.

Every failure of the storage below leaves here as BadInput with one line.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numcodecs import Blosc
from numcodecs.errors import UnknownCodecError
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore, ZipStore

from sim2real_aug.errors import BadInput, MissingExtra

BLOSC_HEADER_BYTES = 16
PARTIAL = ".partial"  # ends the name of a store that is being made
LEROBOT_INFO = Path("meta", "info.json")
OF_IMAGECODECS = "imagecodecs_"  # JPEG 2000, JPEG XL: how diffusion_policy and UMI keep frames of real robots
# Chunks equal to the fill value are written too: a chunk that is not there is then known to be lost.
WRITE_ALL_CHUNKS = {"write_empty_chunks": True}


def is_url(path: str | Path) -> bool:
    return "://" in str(path)


def is_zip(path: str | Path) -> bool:
    return str(path).endswith(".zip")


def open_store(path: str | Path) -> zarr.Group:
    """The root group at `path`, read-only. Raises BadInput when there is no readable zarr group."""
    if not is_url(path) and not Path(path).exists():
        raise BadInput(f"no replay buffer at {path}: it does not exist; give a zarr folder, .zip file or URL")
    place = _fetched(str(path)) if is_url(path) and is_zip(path) else path
    try:
        if not is_url(place) and Path(place).is_file():
            return zarr.open_group(ZipStore(place, mode="r"), mode="r")
        return zarr.open_group(str(path), mode="r")
    except zipfile.BadZipFile as error:
        advice = _foreign(path) or "copy or download it again"
        raise BadInput(f"{path} is not a whole zip file ({error}); {advice}") from error
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} is not a zarr group: it has no .zgroup (format 2) or zarr.json (format 3); "
            + (_foreign(path) or "give the folder that holds data/ and meta/")
        ) from error
    except Exception as error:  # the storage libraries raise many kinds; the user needs one line
        raise BadInput(f"{path} cannot be opened as a zarr group: {one_line(error)}") from error


def _foreign(path: str | Path) -> str | None:
    """What to do about a dataset of another kind; None for what is none that we know."""
    if is_hdf5(Path(path)):
        kind = "an HDF5 file"
    elif is_lerobot(Path(path)):
        kind = "a dataset of LeRobot's"
    else:
        return None
    return f"it is {kind}: `sim2real-aug convert {shlex.quote(str(path))} OUT.zarr` makes a store of it"


def _fetched(url: str) -> str:
    """A local copy of the zip at `url`, kept until the process ends: zarr lists no groups of one behind a URL."""
    cache = {"cache_storage": _downloads().name}
    try:
        return str(fsspec.open_local(f"simplecache::{url.removeprefix('zip::')}", simplecache=cache))
    except Exception as error:  # of many kinds, as in open_store
        raise BadInput(f"{url} cannot be fetched: {one_line(error)}; give the URL of a zarr folder or .zip") from error


@functools.cache
def _downloads() -> tempfile.TemporaryDirectory[str]:
    """Not simplecache's own folder, which goes when a forked worker opens the store anew."""
    return tempfile.TemporaryDirectory(prefix="sim2real-aug-")


def one_line(error: BaseException) -> str:
    """The message of any exception on one line, its type when it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reading(place: str, remedy: str = "copy or download the store again") -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged chunk into BadInput that names `place`."""
    try:
        yield
    except BadInput:
        raise
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise BadInput(f"{place} cannot be read ({one_line(error)}); {remedy}") from error


def arrays_of(group: zarr.Group) -> dict[str, zarr.Array]:
    """The arrays of a group by name, sorted.

    Raises BadInput for one whose description is damaged or whose codec is unknown; those of imagecodecs are registered
    when they are met.
    """
    with reading(str(group.store_path)):
        try:
            return dict(sorted(group.arrays()))
        except UnknownCodecError as error:
            if OF_IMAGECODECS not in str(error):
                raise BadInput(f"{group.store_path}: {one_line(error)}; register it with numcodecs") from error
            _register_imagecodecs()
            return dict(sorted(group.arrays()))


def _register_imagecodecs() -> None:
    try:
        from imagecodecs.numcodecs import register_codecs
    except ImportError as error:
        raise MissingExtra("a store whose frames imagecodecs compressed", "codecs") from error
    register_codecs(verbose=False)


def is_lerobot(path: Path) -> bool:
    return (path / LEROBOT_INFO).is_file()


def is_hdf5(path: Path) -> bool:
    return path.suffix in (".hdf5", ".h5")


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr group, whatever it holds."""
    return any((path / name).exists() for name in (".zgroup", "zarr.json"))


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raise BadInput when something stands at `path` that may not be replaced.

    Only zarr stores ever may: a mistyped path must not cost the user a folder of something else.
    """
    target = Path(path)
    if target.is_symlink():
        raise BadInput(f"{path} is a link; give the place that it leads to, {target.resolve()}")
    if not target.exists():
        return
    if not overwrite:
        raise BadInput(f"{path} exists; choose another path, or --overwrite to replace it")
    if target.is_dir() and is_zip(target):
        raise BadInput(f"{path} exists and is a folder, not a zip file; choose another path")
    if target.is_file():
        replaceable = is_zip(target) and zipfile.is_zipfile(target)
    else:
        replaceable = not any(target.iterdir()) or is_store(target)
    if not replaceable:
        raise BadInput(f"{path} exists and is not a zarr store; --overwrite replaces zarr stores only")


def remove_store(path: Path) -> None:
    """Remove what stands at `path`, if anything; `refuse_existing` must have been asked."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def partial_folder(path: str | Path) -> Path:
    """Where a store is built that appears at `path` only when it is complete, and that the same command takes up."""
    target = Path(path)
    return target.with_name(target.name + PARTIAL)


def copy_folder(path: str | Path) -> Path:
    """Where a store is built that is begun anew after an interruption: nobody's unfinished work is there."""
    target = Path(path)
    return target.with_name(f"{target.name}.copying")


def create_group(path: Path, zarr_format: int) -> zarr.Group:
    """A new root group in the folder `path`."""
    if zarr_format not in (2, 3):
        raise BadInput(f"zarr_format must be 2 or 3; got {zarr_format!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return zarr.open_group(LocalStore(path), mode="w-", zarr_format=zarr_format)
    except OSError as error:
        raise BadInput(f"{path} cannot be created ({one_line(error)}); choose a writable place") from error


def create_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunk_length: int
) -> zarr.Array:
    """An array chunked along its first axis only, compressed as diffusion_policy does on disk."""
    if group.metadata.zarr_format == 2:
        compressor: Any = Blosc("zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
    else:
        # numcodecs picks the element size from the buffer, zarr 3's codec must be told
        compressor = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=dtype.itemsize)
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk_length, *shape[1:])[: len(shape)],
        compressors=compressor,
        fill_value=np.zeros((), dtype).item(),
        config=WRITE_ALL_CHUNKS,
    )


def writable(array: zarr.Array) -> zarr.Array:
    """The same array, with chunks that equal the fill value written too."""
    return array.with_config(WRITE_ALL_CHUNKS)


def time_chunk(array: zarr.Array) -> int:
    """Frames per unit of storage along the first axis (a shard where there are shards), 1 for a scalar."""
    return int((array.shards or array.chunks or (1,))[0])


def chunk_keys(array: zarr.Array, index: int | None = None) -> list[str]:
    """Store keys of the chunks of `array`, only those of time-chunk `index` when it is given."""
    unit = array.shards or array.chunks
    grid = [range(-(-length // step)) for length, step in zip(array.shape, unit, strict=True)]
    if index is not None:
        grid[0] = range(index, index + 1)
    prefix = f"{array.path}/" if array.path else ""
    cells = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, len(grid))
    return [prefix + array.metadata.encode_chunk_key(tuple(int(i) for i in cell)) for cell in cells]


def damaged_chunk(array: zarr.Array, sparse: bool = False) -> str | None:
    """What is wrong with the first lost or shortened chunk of a local array; None when all are whole.

    sparse: a chunk that is not there is all fill value, as zarr 3 writes them by default, and not lost. Looks at sizes
    and at Blosc's own header (bytes 12–15: compressed length), so it decodes nothing.
    """
    root = local_root(array)
    if root is None:
        return None
    blosc = array.shards is None and any(
        type(c).__name__ in ("Blosc", "BloscCodec") for c in array.compressors
    )
    for key in chunk_keys(array):
        path = root / key
        if not path.is_file():
            if sparse:
                continue
            return f"chunk {key} is missing"
        size = path.stat().st_size
        if size == 0:
            return f"chunk {key} is empty"
        if blosc:
            with path.open("rb") as file:
                header = file.read(BLOSC_HEADER_BYTES)
            whole = int.from_bytes(header[12:16], "little") if len(header) == BLOSC_HEADER_BYTES else -1
            if whole != size:
                return f"chunk {key} is truncated ({size} bytes of {max(whole, BLOSC_HEADER_BYTES)})"
    return None


def local_root(node: zarr.Array | zarr.Group) -> Path | None:
    """The folder of a store on the local disk, None for zip files and URLs."""
    return Path(node.store.root) if isinstance(node.store, LocalStore) else None


def pack(folder: Path, target: Path) -> None:
    """Move a finished folder store to `target`, over what stands there; packed, uncompressed, for .zip."""
    remove_leftovers(folder)
    if not is_zip(target):
        move_over(folder, target)
        return
    temporary = target.with_name(f".{target.name}.packing")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            # a fixed date: equal stores make equal files
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as sink, file.open("rb") as source:
                shutil.copyfileobj(source, sink)
    temporary.replace(target)
    shutil.rmtree(folder)


def move_over(folder: Path, target: Path) -> None:
    """Move a folder to `target`; what stands there is removed when it is in place."""
    old = target.with_name(f".{target.name}.old")
    remove_store(old)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    remove_store(old)


def make_parent(target: Path) -> None:
    """Make the folder that `target` is to stand in. Raises BadInput where that is impossible."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{target} cannot be created ({one_line(error)}); choose a writable place") from error


def remove_leftovers(folder: Path) -> None:
    """Remove zarr's temporary files, which a killed run leaves behind."""
    for leftover in folder.rglob("*.partial"):
        leftover.unlink()
