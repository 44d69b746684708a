"""The wheel: what is in it, and that an installation from it works without the checkout."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.repository.sources import PACKAGE, ROOT, nodes

SERVICES = {"phxqueue-store", "phxqueue-lock", "phxqueue-scheduler", "phxqueue-consumer", "phxqueue-dev"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools leaves a build/ beside its sources and would pack what an earlier build left there.
    for name in ("phxqueue", "twisted"):
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run = subprocess.run([*pip, "--wheel-dir", folder, "./source"], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    [path] = folder.glob("phxqueue-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_types_sources_of_the_wire_and_plugins(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    protos = {str(path.relative_to(ROOT)) for path in (ROOT / "phxqueue" / "proto").glob("*.proto")}
    stubs = {str(path.relative_to(ROOT)) for path in (ROOT / "phxqueue" / "proto").glob("*.pyi")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "phxqueue").rglob("*.py")}
    plugins = {str(path.relative_to(ROOT)) for path in (ROOT / "twisted" / "plugins").glob("*.py")}
    assert plugins
    assert {"phxqueue/py.typed"} | protos | stubs | modules | plugins <= names


def test_wheel_leaves_twisted_alone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not {"twisted/__init__.py", "twisted/plugins/__init__.py", "twisted/plugins/dropin.cache"} & names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"phxqueue", "twisted"}


def twistd_services(path: list[str], cwd: Path) -> set[str]:
    """The phxqueue services that twistd finds with this import path."""
    script = (
        "import sys\n"
        f"sys.path = {path!r} + [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
        "from twisted.application.service import IServiceMaker\n"
        "from twisted.plugin import getPlugins\n"
        "makers = [p for p in getPlugins(IServiceMaker) if p.tapname.startswith('phxqueue')]\n"
        "for maker in makers: maker.options; maker.makeService\n"
        "import phxqueue; print(phxqueue.__file__); print(*[maker.tapname for maker in makers])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    origin, names = run.stdout.splitlines()
    assert origin.startswith(path[0])
    return set(names.split())


def test_twistd_finds_the_plugins_of_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    assert twistd_services([str(installed)], tmp_path) == SERVICES


def test_twistd_finds_the_plugins_of_the_checkout(tmp_path: Path) -> None:
    assert twistd_services([str(ROOT)], tmp_path) == SERVICES


def test_editable_install_is_a_path_entry(tmp_path: Path) -> None:
    # Twisted looks for plugins along sys.path; setuptools' import hooks for editable installs are invisible to it.
    command = [sys.executable, "-c", "import sys; print(*sys.path, sep='\\n')"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(ROOT) in run.stdout.splitlines()


def test_every_dependency_is_explained() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    names = {re.split(r"[<>=;\[ ]", line, maxsplit=1)[0].lower() for line in lines}
    explained = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert {name for name in names if f"`{name}`" not in explained} == set()


def test_generated_protobuf_runs_on_the_lowest_runtime_allowed() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    [bound] = re.findall(r"^protobuf>=([0-9.]+)", config["options"]["install_requires"], re.MULTILINE)
    for path in (ROOT / "phxqueue" / "proto").glob("*_pb2.py"):
        [version] = re.findall(r"^# Protobuf Python Version: ([0-9.]+)$", path.read_text(), re.MULTILINE)
        assert tuple(map(int, version.split("."))) <= tuple(map(int, bound.split("."))), path


def test_every_import_is_declared() -> None:
    # What another package happens to bring along today, it may drop tomorrow.
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    names = re.findall(r"^([A-Za-z0-9._-]+)", config["options"]["install_requires"], re.MULTILINE)
    declared = {canonicalize_name(name) for name in names} | {"phxqueue"}
    providers = metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {top}"
        for path in PACKAGE.rglob("*.py")
        for top in imported(path)
        if top not in sys.stdlib_module_names and not declared & set(map(canonicalize_name, providers.get(top, [])))
    }
    assert undeclared == set()


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports; google.protobuf counts as google."""
    found = nodes(path)
    modules = [alias.name for node in found if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in found if isinstance(node, ast.ImportFrom) and node.module]
    return {module.split(".")[0] for module in modules}
