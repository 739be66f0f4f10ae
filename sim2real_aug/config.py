"""Configuration: hydra groups shipped in `sim2real_aug.configs`, composed with the compose API."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sim2real_aug.errors import BadInput, Sim2RealError, unknown_name

T = TypeVar("T")
_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {  # how a type is spoken of, and what passes for it
    float: ("a number", (int, float)),
    int: ("a whole number", (int,)),
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
}
_config_dir: Path | None = None


class _UserConfigDir(SearchPathPlugin):
    """Puts the user's --config-dir before the shipped groups."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if _config_dir is not None:
            search_path.prepend(provider="user", path=f"file://{_config_dir.resolve()}")


def compose(name: str, overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """The resolved configuration `name` with hydra `overrides` (`editor=sd15`, `d3po.beta=0.05`).

    Raises BadInput that names the nearest key when an override fits nothing.
    """
    global _config_dir
    if config_dir is not None and not config_dir.is_dir():
        raise BadInput(f"--config-dir {config_dir} is not a folder")
    _config_dir = config_dir
    Plugins.instance().register(_UserConfigDir)
    try:
        with _apart(), initialize_config_module("sim2real_aug.configs", version_base="1.3"):
            try:
                config = hydra_compose(name, overrides=list(overrides))
                OmegaConf.resolve(config)
            except (HydraException, OmegaConfBaseException) as error:
                raise _explain(error, name) from error
    finally:
        _config_dir = None
    return config


@contextmanager
def _apart() -> Iterator[None]:
    """Inside, hydra knows nothing of others that use it in this process: a user's own `@hydra.main`, or the package
    `sam2`, which begins it when it is imported. Outside it is as they left it."""
    theirs, version_base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        yield
    finally:  # hydra has put another instance there in the meantime
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = theirs, version_base


def command_config(
    command: str, settings: DictConfig, fixed: Mapping[str, object] | None = None, config_dir: str | None = None
) -> DictConfig:
    """The configuration of `command` with the keys of `settings`, and `fixed` above them, typed over its defaults.

    config_dir: the user's groups, before ours.
    """
    typed = {**dict(_flat(settings)), **(fixed or {})}
    overrides = [as_override(key, value) for key, value in typed.items()]
    return compose(command, overrides, None if config_dir is None else Path(config_dir))


def _flat(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        dotted = prefix + str(key)
        if isinstance(value, DictConfig):
            yield from _flat(value, f"{dotted}.")
        else:
            yield dotted, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def as_override(key: str, value: object) -> str:
    """Hydra's spelling of key=value; text is quoted, so that spaces, commas and '=' survive."""
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool | int | float):
        return f"{key}={str(value).lower() if isinstance(value, bool) else value}"
    if isinstance(value, list | tuple):
        return f"{key}=[{','.join(as_override('', item)[1:] for item in value)}]"
    text = re.sub(r"(\\+)(?='|$)", r"\1\1", str(value)).replace("'", "\\'")
    return f"{key}='{text}'"


def make(node: Any, **more: object) -> Any:
    """What the node's `_target_` makes (hydra's `instantiate`). A BadInput of its own comes through as it is.

    Raises BadInput where there is no such `_target_`.
    """
    try:
        return instantiate(node, **more)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Sim2RealError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from error
        if isinstance(error.__cause__, TypeError) and "argument" in str(error.__cause__):
            raise BadInput(f"_target_ {node.get('_target_')}: {error.__cause__}") from error
        if str(error).startswith("Error locating target"):
            raise BadInput(" ".join(str(error).split("\n")[0].split())) from error
        raise


def _explain(error: Exception, name: str) -> BadInput:
    """One line for the user from hydra's many."""
    if isinstance(error, OverrideParseException):
        return BadInput(f"override '{error.override}' cannot be read: give key=value, as in seed=1")
    text = " ".join(str(error).split())
    refused = r"(?:Could not override|Could not append to config\. An item is already at) '([^']+)'"
    unknown = re.search(refused, text)
    if unknown:
        key = unknown.group(1)
        known = _dotted_keys(hydra_compose(name))
        if key in known:  # a mapping was given a key that it has not
            return BadInput(f"configuration key '{key}' holds other keys; to add one: +{key}.NAME=VALUE")
        nearest = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else " See --dry-run for the keys there are."
        return BadInput(f"unknown configuration key '{key}'.{hint}")
    missing = re.search(r"Could not find '([^']+)' Available options in '([^']+)': (.*)", text)
    if missing:
        path, group, options = missing.groups()
        known = re.findall(r"[\w-]+", options.split(" Config ")[0])
        return unknown_name(group, path.rsplit("/", 1)[-1], known)
    return BadInput(text)


def _dotted_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items_ex(resolve=False):
        dotted = prefix + str(key)
        keys.append(dotted)
        if isinstance(value, DictConfig):
            keys += _dotted_keys(value, f"{dotted}.")
    return keys


def settings(cls: type[T], node: DictConfig | dict[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls`, and of those inside it, from a configuration node.

    where: the dotted key of the node, for messages. Raises BadInput that names the key: an unknown one (with the
    nearest there is), one that is missing, a value of the wrong type, or what `cls` itself refuses.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if not isinstance(plain, dict):
        raise BadInput(f"{where or 'the configuration'} must hold keys and values; got {plain!r}")
    values = {str(key): value for key, value in plain.items()}
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise unknown_name(f"{where} key" if where else "key", key, fields)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise BadInput(f"{_dotted(where, name)} is missing")
    hints = get_type_hints(cls)
    converted = {key: _convert(hints[key], value, _dotted(where, key)) for key, value in values.items()}
    try:
        return cls(**converted)
    except BadInput as error:
        if not where:
            raise
        raise BadInput(f"{where}: {error}") from error


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as a field of type `hint`: lists become tuples, mappings dataclasses, and the type is checked."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner[0], value, where) if len(inner) == 1 else value
    if dataclasses.is_dataclass(hint):
        return settings(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if hint in _SCALARS:
        spoken, accepted = _SCALARS[hint]
        if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
            raise BadInput(f"{where} must be {spoken}; got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise BadInput(f"{where} must be a list; got {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise BadInput(f"{where} must be a list of {len(arguments)}; got {list(value)}")
    return tuple(
        _convert(hint, item, f"{where}[{index}]")
        for index, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )
