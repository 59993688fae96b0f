"""``rl-lr design``: one search with progress, TensorBoard, and a folder from which it goes on."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.tensorboard import SummaryWriter

from rl_lr.design.agent import Agent, RandomSearch
from rl_lr.design.architecture import Architecture
from rl_lr.design.cells import Cell
from rl_lr.design.children import Judge, Training
from rl_lr.design.drawing import draw_architecture, draw_cell
from rl_lr.design.problems import Digits, Problem, Source
from rl_lr.design.q_learning import QLearning
from rl_lr.design.reinforce import Reinforce
from rl_lr.design.search import Found, search
from rl_lr.design.space import Design, Space
from rl_lr.policy_files import write_atomically

SpaceName = Literal["layers", "cells"]
AgentName = Literal["q-learning", "reinforce", "random"]
SEARCH_FILE, CHILDREN_FILE, RESULT_FILE = "search.json", "children.jsonl", "result.json"


@dataclass(frozen=True)
class SearchConfig:
    """What defines a search."""

    space: SpaceName = "layers"
    """Layers of a network for images, or recurrent cells for text."""
    agent: AgentName = "q-learning"
    """What searches."""
    children: int = 80
    """Different designs that are judged."""
    seed: int = 0
    """Of the agent."""
    steps: int = 120
    """Optimizer steps of a child's training."""
    runs: int = 3
    """Seeds that each child is trained from."""

    def __post_init__(self) -> None:
        """Refuse a search that judges nothing."""
        for name in ("children", "steps", "runs"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} is {getattr(self, name)}, and a search needs at least one: give 1 or more."
                )


def counted(console: Console) -> Progress:
    """Bars with a title, how many of how many, and the time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def problem_of(space: SpaceName) -> Problem[Any]:
    """What designs of a space are judged on."""
    return Digits() if space == "layers" else Source()


def agent_of(name: AgentName, space: Space[Design], seed: int) -> Agent:
    """A fresh agent."""
    makers: dict[AgentName, Callable[[Space[Design], int], Agent]] = {
        "q-learning": QLearning,
        "reinforce": Reinforce,
        "random": RandomSearch,
    }
    return makers[name](space, seed)


def run_design(
    out: Path | None, resume: Path | None, config: SearchConfig, console: Console | None = None
) -> Found:
    """A new search into ``out``, or the one in ``resume``, which goes on where it was killed.

    Writes into the folder ``search.json`` (the settings), ``children.jsonl`` (every judged design, as soon as
    it is), ``tensorboard/`` and at the end ``result.json`` and ``best.png``. To go on is to search again from
    the beginning over the children that are there: that takes a moment, and ends the same to the bit.

    Raises:
        ValueError: if neither or both folders are given, a new one holds a search already, or an old one none.
    """
    if (out is None) == (resume is None):
        raise ValueError("Give either --out, the folder of a new search, or --resume, that of an old one.")
    folder = out or resume
    assert folder is not None
    config = _begin(folder, config) if resume is None else _settings(folder)
    console, problem = console or Console(), problem_of(config.space)
    training = Training(steps=config.steps, seeds=tuple(range(config.runs)))
    judge = Judge(problem, training, folder / CHILDREN_FILE)
    agent = agent_of(config.agent, problem.space, config.seed)
    with _writer(folder, config) as board, counted(console) as bar:
        task = bar.add_task(f"{config.agent}, {config.space}", total=config.children)

        def report(found: Found) -> None:
            best = found.best()[0]
            bar.update(
                task, completed=len(found.children), description=f"best {best.reward:.3f}: {best.design}"
            )
            _log(board, problem, found)

        found = search(judge, agent, config.children, report)
    _finish(folder, problem, found)
    best = found.best()[0]
    console.print(
        f"Best of {len(found.children)}: {best.design}, reward {best.reward:.3f}, "
        f"{problem.parameters(problem.parse(best.design))} parameters\nTensorBoard: rl-lr board {folder}",
        highlight=False,
        soft_wrap=True,
    )
    return found


def draw(problem: Problem[Any], design: Design) -> Figure:
    """A picture of a design."""
    if isinstance(design, Architecture):
        assert isinstance(problem, Digits)
        return draw_architecture(design, problem.space.inputs, 10)
    assert isinstance(design, Cell)
    return draw_cell(design)


def _begin(folder: Path, config: SearchConfig) -> SearchConfig:
    path = folder / SEARCH_FILE
    if path.exists():
        raise ValueError(
            f"{folder} holds a search already: go on with --resume {folder}, or name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically({path: json.dumps(asdict(config), indent=2).encode()})
    return config


def _settings(folder: Path) -> SearchConfig:
    path = folder / SEARCH_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no search to go on with ({SEARCH_FILE} is missing): name its folder."
        )
    try:
        return replace(SearchConfig(), **json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} describes no search ({error}): it is damaged; begin a new one.") from error


def _writer(folder: Path, config: SearchConfig) -> SummaryWriter:
    """TensorBoard; what an interrupted search wrote is hidden, since all is written again."""
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=1)
    board.add_text("settings", f"```json\n{json.dumps(asdict(config), indent=2)}\n```", 0)
    return board


def _log(board: SummaryWriter, problem: Problem[Any], found: Found) -> None:
    number, child, best = len(found.children), found.children[-1], found.best()[0]
    board.add_scalar("search/reward", child.reward, number)
    board.add_scalar("search/best_so_far", best.reward, number)
    if best is child:
        board.add_figure("search/best_design", draw(problem, problem.parse(best.design)), number)
        board.add_text("search/best_design", f"`{best.design}`", number)


def _finish(folder: Path, problem: Problem[Any], found: Found) -> None:
    rows = {"children": [asdict(child) for child in found.children], "best": asdict(found.best()[0])}
    write_atomically({folder / RESULT_FILE: json.dumps(rows, indent=1).encode()})
    draw(problem, problem.parse(found.best()[0].design)).savefig(folder / "best.png", dpi=100)
