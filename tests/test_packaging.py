"""What is shipped, what an import costs, and which way the dependencies point."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec, resolve_name
from pathlib import Path

import pytest

import rl_lr

ROOT = Path(__file__).resolve().parents[1]
SHELLS = ("envs", "callbacks")
ENTRY_POINTS = {"agents", "bench", "cli.py", "compare", "demo", "progress.py", "training.py", "workers"}
GYMNASIUM, LIGHTNING, SB3 = {"gymnasium"}, {"lightning", "pytorch_lightning"}, {"stable_baselines3"}
HUGGING_FACE = {"accelerate", "transformers"}

in_checkout = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs git and a checkout"
)


def repository_files() -> list[Path]:
    """Files of the checkout, relative to its root: tracked ones, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    # A link to a folder is one entry, and no file: the folder's own files are listed where they lie.
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()]


# --- the wheel -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from a copy of the checkout so that nothing is left behind in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in repository_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    for shell in SHELLS:
        (source / "rl_lr" / shell).symlink_to(Path("..") / shell)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@in_checkout
def test_wheel_holds_nothing_outside_the_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"rl_lr", f"rl_lr-{rl_lr.__version__}.dist-info"}


@in_checkout
def test_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    """A sub-package that pyproject.toml's ``packages`` forgets is missed here."""
    modules = [name for name in repository_files() if name.suffix == ".py"]
    core = {name.as_posix() for name in modules if name.parts[0] == "rl_lr"}
    shells = {f"rl_lr/{name.as_posix()}" for name in modules if name.parts[0] in SHELLS}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == core | shells


@in_checkout
def test_wheel_holds_data_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    policies = {name.as_posix() for name in repository_files() if name.parts[:2] == ("rl_lr", "policies")}
    files = ("model.safetensors", "config.json", "README.md")
    folders = ("default", "dqn", "coordinate/quadratics", "coordinate/sigmoid-mlp")
    shipped = {f"rl_lr/policies/{policy}/{name}" for policy in folders for name in files}
    assert shipped <= policies
    assert policies | {"rl_lr/py.typed"} <= set(names)
    assert any(re.fullmatch(r"rl_lr-[^/]+\.dist-info/licenses/LICENSE", name) for name in names)


@in_checkout
def test_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert rl_lr.__version__ == version("rl-lr") == project["version"]


# --- the repository --------------------------------------------------------------------------


@in_checkout
def test_no_file_names_a_path_of_a_machine() -> None:
    path = re.compile(
        rb"(?:(?<![\w./~-])|file://)/(?:home|root|Users|work|opt|srv|mnt|tmp)/\w[\w./-]*|\b[A-Z]:\\Users\\"
    )
    hits = {
        f"{name}: {match[0].decode()}"
        for name in repository_files()
        for match in path.finditer((ROOT / name).read_bytes())
    }
    assert not hits


@in_checkout
def test_constraints_are_exact_and_portable() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", pin)] == []


# --- imports, each in a fresh process --------------------------------------------------------


def run_python(code: str, folder: Path) -> str:
    """What ``code`` prints, run away from the checkout with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(module: str, folder: Path, after: str = "sys") -> set[str]:
    """Top-level modules that importing ``module`` loads, beyond what importing ``after`` does."""
    code = (
        f"import sys, {after}; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    )
    return {name.partition(".")[0] for name in run_python(code, folder).split()}


HEAVY = GYMNASIUM | SB3 | {"accelerate", "ray", "sklearn", "tensorboard"}
BY_LIGHTNING = {"matplotlib", "transformers"}
"""Loaded by Lightning itself, through torchmetrics, wherever they are installed."""


def test_core_is_light(tmp_path: Path) -> None:
    assert not loaded_by("rl_lr", tmp_path) & (HEAVY | LIGHTNING | BY_LIGHTNING)


def test_callbacks_load_lightning_alone(tmp_path: Path) -> None:
    assert not loaded_by("rl_lr.callbacks", tmp_path) & HEAVY
    assert not loaded_by("rl_lr.callbacks", tmp_path, after="pytorch_lightning") & BY_LIGHTNING


def test_envs_load_gymnasium_alone(tmp_path: Path) -> None:
    loaded = loaded_by("rl_lr.envs", tmp_path)
    assert loaded >= GYMNASIUM
    assert not loaded & (SB3 | LIGHTNING | HUGGING_FACE)


def test_imports_leave_torch_threads_alone(tmp_path: Path) -> None:
    code = "import torch; torch.set_num_threads(3); import rl_lr.callbacks, rl_lr.envs; print(torch.get_num_threads())"
    assert run_python(code, tmp_path).strip() == "3"


# --- direction of dependencies: envs → core ← callbacks --------------------------------------


def sources(package: str) -> dict[Path, str]:
    """The Python files of a package and where they sit in it; rl_lr's without its shells and entry points."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    skipped = {*SHELLS, *ENTRY_POINTS} if package == "rl_lr" else set()
    places = {path: path.relative_to(folder).parts for path in folder.rglob("*.py")}
    return {
        path: ".".join((package, *parts[:-1])) for path, parts in places.items() if parts[0] not in skipped
    }


def imports(path: Path, package: str) -> Iterator[str]:
    """Full dotted names that a file of ``package`` imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


BRIDGE = {"at_rest.py", "fit_under_way.py", "lightning_fit.py"}
"""The one environment that runs the callback which deploys; loading it loads neither, see above."""


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("rl_lr", {*GYMNASIUM, *LIGHTNING, *SB3, *HUGGING_FACE, "ray", "rl_lr.envs", "rl_lr.callbacks"}),
        ("rl_lr.envs", {*LIGHTNING, *HUGGING_FACE, "rl_lr.callbacks"}),
        ("rl_lr.callbacks", {*GYMNASIUM, *SB3, "rl_lr.envs"}),
    ],
)
def test_dependencies_point_to_the_core(package: str, banned: set[str]) -> None:
    files = sources(package)
    assert files
    wrong = [
        f"{path.name} imports {name}"
        for path, place in files.items()
        for name in imports(path, place)
        if path.name not in BRIDGE and any(f"{name}.".startswith(f"{ban}.") for ban in banned)
    ]
    assert not wrong


@in_checkout
def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    readme, results = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    _, _, measured = readme.partition("## Measure it")
    measured, _, _ = measured.partition("\n## ")
    rows = [line for line in measured.splitlines() if line.startswith("|") and not line.startswith("|---")]
    assert len(rows) > 5
    assert [row for row in rows if row not in results] == []
