"""The Hugging Face hub: the folder of a published checkpoint, fetched once, and one's own published.

With a network the hub is asked for the newest revision; without one what the cache holds is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, validate_repo_id

from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput, Fault
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
    if folder.parent.is_dir():
        raise BadInput(f"there is no folder {name}, though {folder.parent}/ is there")
    options = {"allow_patterns": list(needed), "ignore_patterns": list(ignored)}
    download = partial(snapshot_download, str(name), **options)
    try:
        if any(isinstance(try_to_load_from_cache(str(name), file), str) for file in MARKS):
            disable_progress_bars()
        else:
            enable_progress_bars()  # on a terminal
            say(f"fetching {name} from the Hugging Face hub")
        return _told_of(name, Path(download()))
    except GatedRepoError as error:  # before its base class
        raise BadInput(
            f"{name} is gated: accept its terms at https://huggingface.co/{name}, then run 'hf auth login'"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(f"{unknown}; a private one asks for 'hf auth login'") from error
    except Exception as error:  # of the network, whichever HTTP library huggingface_hub uses these days
        return _cached(name, download, error)


def _cached(name: str | Path, download: Callable[..., str], failure: Exception) -> Path:
    """The folder in the cache, which huggingface_hub looks into after some failures only."""
    try:
        return _told_of(name, Path(download(local_files_only=True)))
    except (OSError, ValueError) as error:
        known = isinstance(failure, OSError | ValueError)
        if known and not isinstance(failure, EntryNotFoundError):
            raise BadInput(f"{name} cannot be fetched: {one_line(failure)}") from failure
        reason = "" if known else f" ({type(failure).__name__}: {one_line(failure)})"
        raise BadInput(
            f"{name} is not in the cache and the Hugging Face hub cannot be reached{reason}; give the folder of a "
            "copy, or run once with a network"
        ) from error


def _told_of(name: str | Path, snapshot: Path) -> Path:
    """The folder as it is, the user told of a download that was interrupted and not finished since."""
    parts = [part.stat().st_mtime for part in (snapshot.parents[1] / "blobs").glob("*.incomplete")]
    if parts and max(parts) >= max((file.lstat().st_mtime for file in snapshot.iterdir()), default=0):
        say(f"the download of {name} was interrupted; run once with a network to fetch the rest")
    return snapshot


def require_own(name: str) -> None:
    """Whether a checkpoint can be pushed as `name`, ORG/NAME, asked before there is one.

    Raises BadInput for a name that the hub cannot have, where no one is logged in or the hub cannot be reached, for a
    login that may only read, and where ORG is neither the user nor an organisation of theirs.
    """
    if name.count("/") != 1:
        raise BadInput(f"a model is pushed to the Hugging Face hub as ORG/NAME; got '{name}'")
    try:
        validate_repo_id(name)
        user = HfApi().whoami()
    except HFValidationError as error:
        raise BadInput(f"'{name}' cannot be a name on the Hugging Face hub: {one_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise BadInput(f"to push to {name}, log in to the Hugging Face hub first: 'hf auth login'") from error
    except HfHubHTTPError as error:
        raise BadInput(
            f"the Hugging Face hub refuses the login ({one_line(error)}); log in again: 'hf auth login'"
        ) from error
    except Exception as error:  # of the network, whichever HTTP library huggingface_hub uses these days
        raise BadInput(f"{name} cannot be pushed to, the hub is not reached: {one_line(error)}") from error
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise BadInput(f"{name} cannot be pushed to, the login may only read: 'hf auth login' with a write token")
    owners = [user["name"], *(organisation["name"] for organisation in user.get("orgs", []))]
    if name.split("/")[0] not in owners:
        raise BadInput(f"{name} is not yours to push to: the login is of {', '.join(owners)}")


def push(folder: str | Path, name: str) -> str:
    """Upload `folder` as the model `name`, private where it is new; returns its address.

    Private, for photos of one's bench go with it. Raises Fault where the upload fails; the folder is as it was.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except Exception as error:  # as above
        raise Fault(
            f"{folder} is whole but was not pushed to {name}: {one_line(error)}; the same command tries again"
        ) from error
    return str(address)
