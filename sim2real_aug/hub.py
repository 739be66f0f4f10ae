"""The Hugging Face hub: the folder of a published checkpoint, fetched once.

With a network the hub is asked for the newest revision; without one what the cache holds is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)

from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say

MARKS = ("config.json", "model_index.json")  # one of them is in every checkpoint


def fetch(name: str | Path, needed: Sequence[str], ignored: Sequence[str] = ()) -> Path:
    """The folder of a checkpoint: `name` itself where it is one, else the hub's ORG/MODEL of that name.

    needed, ignored: patterns of the files to fetch and, of these, to leave.
    Raises BadInput for a name that the hub does not know or keeps behind a login, and where neither the hub can be
    reached nor the cache holds it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    unknown = f"{name} is neither a folder nor, as ORG/MODEL, a model on the Hugging Face hub"
    if str(name).count("/") != 1 or str(name)[0] in "./~":
        raise BadInput(unknown)
    try:
        if not any(isinstance(try_to_load_from_cache(str(name), file), str) for file in MARKS):
            say(f"fetching {name} from the Hugging Face hub")
        return Path(snapshot_download(str(name), allow_patterns=list(needed), ignore_patterns=list(ignored)))
    except GatedRepoError as error:  # before its base class
        raise BadInput(
            f"{name} is gated: accept its terms at https://huggingface.co/{name}, then run 'hf auth login'"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(f"{unknown}; a private one asks for 'hf auth login'") from error
    except EntryNotFoundError as error:
        raise BadInput(
            f"{name} is not in the cache and the Hugging Face hub cannot be reached; give the folder of a copy, or "
            "run once with a network"
        ) from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{name} cannot be fetched: {one_line(error)}") from error
