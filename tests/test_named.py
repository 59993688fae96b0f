"""Tasks by name and by path."""

import sys
from pathlib import Path

import numpy as np
import pytest

from rl_lr.cli import main
from rl_lr.tasks import resolve
from rl_lr.tasks.named import named
from rl_lr.tasks.task import steppable

MINE = """
import torch
from rl_lr import Task
from rl_lr.optimizers import OptimizerSpec

class Parabola:
    name, optimizer, batch_size = "parabola", OptimizerSpec("sgd", lr=0.1), 8

    def __init__(self, size=3):
        self.size = size

    def model(self):
        return torch.nn.Linear(self.size, 1)

    def data(self):
        return (torch.randn(64, self.size, generator=torch.Generator().manual_seed(0)),)

    def loss(self, model, x):
        return model(x).square().mean()

one = Parabola(4)

def made():
    return Parabola(5)

def family(rng):
    return Parabola(int(rng.integers(2, 9)))

def broken():
    raise RuntimeError("user code")

def nothing():
    return 7

number = 7
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of somebody's own, which is the current one."""
    (tmp_path / "my_tasks_1.py").write_text(MINE)
    (tmp_path / "broken_tasks_1.py").write_text("import no_such_module_1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_tasks_1", raising=False)
    return tmp_path


@pytest.mark.parametrize(("name", "size"), [("Parabola", 3), ("one", 4), ("made", 5)])
def test_a_path_means_a_task_a_class_or_a_function(mine: Path, name: str, size: int) -> None:
    task = steppable(resolve(f"my_tasks_1:{name}")(np.random.default_rng(0)))
    assert task.data()[0].shape == (64, size)


def test_a_function_of_a_generator_is_a_family(mine: Path) -> None:
    drawn = resolve("my_tasks_1:family")
    assert len({steppable(drawn(np.random.default_rng(seed))).data()[0].shape for seed in range(9)}) > 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module_1:x", "cannot be imported .ModuleNotFoundError"),
        ("my_tasks_1:missing", "cannot be imported .AttributeError"),
        ("broken_tasks_1:x", "No module named 'no_such_module_1'"),
        ("my_tasks_1:broken", "could not be made .RuntimeError: user code"),
        ("my_tasks_1:nothing", "is a int, made by calling it, and no task"),
        ("my_tasks_1:number", "is int and no task"),
        ("mnist", "no task 'mnist': choose one of digits-linear"),
    ],
)
def test_what_is_no_task_is_refused_in_one_sentence(mine: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        named(name)


def test_a_package_offers_tasks_by_entry_points(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution, as pip leaves it: a folder of metadata beside the module."""
    metadata = mine / "somebody-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rl_lr.tasks]\nparabola = my_tasks_1:Parabola\n")
    monkeypatch.syspath_prepend(mine)
    assert resolve("parabola")(np.random.default_rng(0)).name == "parabola"


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_the_command_line_trains_on_a_path(
    engine: str, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [
        "--settings.members=1",
        "--settings.iterations=1",
        "--settings.groups=1",
        "--settings.group_size=2",
    ]
    draw = ["--settings.draw.min_steps=60", "--settings.draw.max_steps=60", "--settings.validate_every=0"]
    arguments = [
        "rl-lr",
        "train",
        "--out",
        "out",
        "--task",
        '["my_tasks_1:Parabola"]',
        *sizes,
        *draw,
        f"--engine={engine}",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    assert (mine / "out" / "model.safetensors").is_file()
    assert "my_tasks_1:Parabola" in (mine / "out" / "README.md").read_text()
