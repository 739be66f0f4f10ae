"""`sim2real-aug doctor`: what is installed, which device is used, what is missing, what a training will need."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import sim2real_aug
from sim2real_aug.cli.common import Call, Summary, command

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from sim2real_aug.d3po.plan import Plan

OPTIONAL_MODULES = {
    "pathtraced": "mitsuba",
    "teleop": "pygame",
    "judges": "dreamsim",
    "codecs": "imagecodecs",
    "heic": "pillow_heif",
    "lerobot": "av",
    "hdf5": "h5py",
    "ray": "ray",
    "tracking": "wandb",
    "test": "pytest",
}
LONG = 24 * 7  # hours of a training, more than which is none
REACHED = 0.5  # of a matrix product's speed, by a network: what benchmarks/full_size.py asks of it


def show(summary: Summary) -> None:
    """A line for each check, then what to do about those that fail."""
    marks = {True: "ok", False: "FAIL", None: "-"}
    for check in summary["checks"]:
        typer.echo(f"{marks[check['ok']]:5} {check['name']:24} {check['found']}")
    for check in summary["checks"]:
        if check["ok"] is False:
            typer.echo(f"{check['name']}: {check['remedy']}")
    typer.echo("all is well" if summary["ok"] else "not all is well: see above")


@command("doctor", config="train_editor", show=show)
def doctor(call: Call) -> Summary:
    """Check the installation.

    Versions, device, threads, shipped weights, optional extras. With KEY=VALUE as for train-editor also what that
    training will need, an estimate, and whether it fits here. Exit code 1 if something is missing, or if the training
    does not fit or would take over a week.

    Example: sim2real-aug doctor editor=sd15 judge=grounded d3po=paper
    """
    config = call.compose({}) if call.overrides or call.dry_run else None
    checks = [*_platform(), *_dependencies(), *_device(), _weights(), *_extras(), *_path_tracer()]
    if config is not None:
        checks += _training(config)
    return {"ok": all(check["ok"] is not False for check in checks), "checks": checks}


def _home() -> Path:
    return Path(sim2real_aug.__file__).parent


def _check(name: str, found: object, ok: bool | None = True, remedy: str = "") -> Summary:
    return {"name": name, "found": str(found), "ok": ok, "remedy": remedy}


def _platform() -> list[Summary]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return [
        _check("sim2real-aug", f"{version('sim2real-aug')} in {_home()}"),
        _check("python", f"{platform.python_version()} ({sys.executable})"),
        _check("platform", f"{platform.system()} {platform.machine()}"),
        _check("free disk here", f"{free:.1f} GB", free > 1, "the demo writes up to 1 GB"),
    ]


def _dependencies() -> list[Summary]:
    """One check for each requirement of the core, against the version that is installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with transformers, so the core is not all there
        return [_check("packaging", "not installed", False, "pip install --force-reinstall sim2real-aug")]
    checks = []
    for text in requires("sim2real-aug") or []:
        requirement = Requirement(text)
        if requirement.marker is not None:  # of an extra
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "not installed"
        fits = found != "not installed" and requirement.specifier.contains(found, prereleases=True)
        checks.append(_check(requirement.name, found, fits, f"pip install '{requirement}'"))
    return checks


def _device() -> list[Summary]:
    if find_spec("torch") is None:  # reported by _dependencies
        return []
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: everything runs on the CPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        _check("GPU", name, True if torch.cuda.is_available() else None),
        _check("threads", f"torch uses {torch.get_num_threads()} of {cores} cores"),
    ]


def _weights() -> Summary:
    folder = _home() / "weights" / "compact"
    found = (folder / "editor" / "model_index.json").is_file()
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6
    return _check(
        "shipped weights",
        f"{size:.1f} MB in {folder}" if found else f"none in {folder}",
        found,
        "install the wheel, or make them anew with: sim2real-aug pretrain",
    )


def _extras() -> list[Summary]:
    checks = []
    for extra, module in OPTIONAL_MODULES.items():
        there = find_spec(module) is not None
        found = "installed" if there else f"pip install 'sim2real-aug[{extra}]'"
        checks.append(_check(f"extra [{extra}]", found, there or None))
    return checks


def _path_tracer() -> list[Summary]:
    """Which variant of Mitsuba draws the domains pathtraced/SCENE; nothing without Mitsuba."""
    from sim2real_aug.envs.mitsuba_variant import find_llvm, how_to_get_llvm, mitsuba_installed, variant

    if not mitsuba_installed():
        return []
    llvm = find_llvm()
    if llvm is None:
        return [
            _check(
                "path tracer", f"{variant()}, about 5 times slower than with LLVM: {how_to_get_llvm()}", None
            )
        ]
    return [_check("path tracer", f"{variant()} with LLVM {llvm.version} ({llvm.path})")]


def _training(config: DictConfig) -> list[Summary]:
    """What `train-editor` with this configuration needs, and whether it fits."""
    from sim2real_aug.d3po.plan import plan
    from sim2real_aug.devices import free_memory, resolve_device

    device, batch = resolve_device(config.device), config.d3po.batch_size
    needs, free, disk = plan(config, device), free_memory(device), shutil.disk_usage(Path.cwd()).free
    memory, most = needs.memory(batch), needs.largest_batch(free)
    uncounted = f"; judges not counted: {', '.join(needs.uncounted)}" if needs.uncounted else ""
    parts = ", ".join(f"{name} {size / 1e6:.1f} M" for name, size in needs.parameters.items())
    purposes = {**needs.held, "minibatch": needs.minibatch(batch)}
    fits = f"up to {most} fits" if most else "not even one group of edits fits"
    smaller = f"d3po.batch_size={most} would fit" if most else "a smaller editor.image_size, or another device"
    return [
        _check("editor", f"{parts} parameters; {needs.trained / 1e6:.2f} M are trained"),
        _check("memory by purpose", ", ".join(f"{name} {_gb(size)}" for name, size in purposes.items())),
        _check(
            "memory, estimated",
            f"{_gb(memory)} with d3po.batch_size={batch}, {_gb(free)} free on {device}: {fits}{uncounted}",
            memory <= free,
            smaller,
        ),
        _check(
            "disk, estimated",
            f"{_gb(needs.disk)}, {_gb(disk)} free here",
            needs.disk <= disk,
            "run it where there is more room",
        ),
        _time(config, needs, device),
    ]


def _time(config: DictConfig, needs: Plan, device: torch.device) -> Summary:
    """What the UNet computes, and how long that takes at the speed that a matrix product has here."""
    import torch

    from sim2real_aug.devices import matrix_rate

    dtype = torch.bfloat16 if config.d3po.precision == "bf16" else torch.float32
    rate, rounds = REACHED * matrix_rate(device, dtype), config.d3po.rounds
    hours = rounds * needs.passes * needs.operations / rate / 3600
    return _check(
        "time, estimated",
        f"{hours:.2g} h for {rounds} rounds of {needs.passes:,} passes of the UNet, each "
        f"{needs.operations / 1e12:.2g} TFLOP, at {rate / 1e12:.2g} TFLOP/s, half of a matrix product's here; "
        "without judges and held-out edits",
        None if hours < LONG else False,
        f"over {LONG} hours: train where a GPU is, or fewer d3po.rounds or d3po.conditions_per_round",
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
