"""What the wheel holds, what an import loads, and that the tree and its lists agree."""

import ast
import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import sim2real_aug
from sim2real_aug.cli.app import app

REPO = Path(__file__).parents[1]
MAPPED = ("configs", "envs", "policies")
SOURCES = ("sim2real_aug", *MAPPED)
HEAVY = ("torch", "diffusers", "transformers", "zarr", "hydra", "cv2", "matplotlib", "gymnasium", "numpy")
PACKAGES = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_folder_of_code_is_in_the_package_list():
    folders = {p.parent.relative_to(REPO) for top in SOURCES for p in (REPO / top).rglob("__init__.py")}
    names = {".".join(folder.parts) for folder in folders}
    assert {f"sim2real_aug.{name}" if name in MAPPED else name for name in names} == set(PACKAGES)


def test_code_outside_a_listed_package_would_not_ship():
    modules = [path for top in SOURCES for path in (REPO / top).rglob("*.py")]
    assert [path for path in modules if not (path.parent / "__init__.py").exists()] == []


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Names in a freshly built wheel, with their sizes; built from a copy, so that nothing stale leaks in."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, copy)
    for name in SOURCES:
        shutil.copytree(REPO / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip_wheel, "--wheel-dir", str(copy / "dist"), str(copy)], check=True)
    [wheel] = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def test_the_wheel_puts_nothing_but_our_package_into_site_packages(wheel_names: dict[str, int]):
    tops = {name.split("/")[0] for name in wheel_names}
    assert tops == {"sim2real_aug", f"sim2real_aug-{sim2real_aug.__version__}.dist-info"}


def test_the_wheel_holds_every_module_and_every_config(wheel_names: dict[str, int]):
    expected = {"sim2real_aug/py.typed"}
    for top in SOURCES:
        prefix = "" if top == "sim2real_aug" else "sim2real_aug/"
        for pattern in ("*.py", "*.yaml"):
            expected |= {prefix + str(p.relative_to(REPO)) for p in (REPO / top).rglob(pattern)}
    assert expected - set(wheel_names) == set()
    assert not [name for name in wheel_names if "test" in name]


def test_the_shipped_weights_are_safetensors_of_at_most_40_MB(wheel_names: dict[str, int]):
    weights = {name: size for name, size in wheel_names.items() if "/weights/" in name}
    assert 0 < sum(weights.values()) <= 40e6
    assert not [name for name in weights if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))]


def test_mapped_folders_are_never_imported_by_their_bare_names(tmp_path: Path):
    code = f"import sys, importlib\nfor n in {PACKAGES!r}: importlib.import_module(n)\n"
    code += f"print([n for n in sys.modules if n.split('.')[0] in {MAPPED!r}])"
    assert python(code, tmp_path) == "[]"


@pytest.mark.parametrize("statement", ["import sim2real_aug", "import sim2real_aug.cli.app"])
def test_importing_loads_nothing_heavy(statement: str, tmp_path: Path):
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code, tmp_path) == "[]"


def test_help_and_import_take_less_than_half_a_second(tmp_path: Path):
    for arguments in (["-c", "import sim2real_aug"], ["-m", "sim2real_aug", "--help"]):
        spent = []
        for _ in range(3):  # processor time, because other tests run beside this one
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(spent) < 0.5


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str):
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_dir_offers_the_lazy_names():
    assert set(sim2real_aug.__all__) <= set(dir(sim2real_aug))


def test_files_and_functions_stay_short():
    """Files under 400 lines, functions under 60."""
    long = []
    for path in (p for top in SOURCES for p in (REPO / top).rglob("*.py")):
        text = path.read_text()
        if text.count("\n") >= 400:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []


def test_documents_name_only_commands_that_exist():
    commands = {command.name for command in app.registered_commands}
    for document in (REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))):
        named = set(re.findall(r"^(?:\$ )?sim2real-aug ([a-z][a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= commands, document


def test_links_between_documents_lead_somewhere():
    documents = [REPO / "README.md", *(REPO / "docs").rglob("*.md"), *(REPO / "benchmarks").rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.skipif("SIM2REAL_AUG_EXPECT_INSTALLED" not in os.environ, reason="only CI tests the wheel")
def test_the_installed_wheel_is_what_is_tested():
    assert not Path(sim2real_aug.__file__).is_relative_to(REPO / "sim2real_aug")
    assert "site-packages" in Path(sim2real_aug.__file__).parts
