"""The comparison: images, trainings, the same test episodes for every arm, tables."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from rl_lr.few_shot.arms import RIVALS, feature_network, trained, untrained
from rl_lr.few_shot.baselines import FineTuning, NearestNeighbour
from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.dataset import Classes, Split, digit_classes, drawn_glyphs
from rl_lr.few_shot.episodes import Episodes, draw_episodes
from rl_lr.few_shot.folders import read_folder
from rl_lr.few_shot.learner import Arm
from rl_lr.few_shot.maml import LearnedStart
from rl_lr.few_shot.measure import Demand, Row, demands, rows
from rl_lr.few_shot.meta_learner import MetaLearner
from rl_lr.few_shot.pictures import draw
from rl_lr.few_shot.report import facts, tables, write_json, write_page
from rl_lr.few_shot.room import check_room
from rl_lr.few_shot.training import Report, accuracies

Accuracies = dict[str, list[float]]
"""On each episode, by arm."""


def compare(
    out: Path,
    data: Path | None,
    config: FewShotConfig,
    page: Path | None,
    results: Path | None,
    console: Console,
) -> tuple[list[Row], list[Demand]]:
    """Train what is not trained yet, measure every arm, show and write the tables.

    Args:
        out: folder of trainings, curves, and accuracies of arms that are measured already.
        data: folder of images; None: drawn glyphs.
        config: sizes.
        page: whose marked part is written, if any.
        results: folder of ``few-shot.json`` and ``few-shot.png``; None: ``out``, under other names.
        console: where progress and tables are shown.

    Raises:
        ValueError: if no episodes of this size can be drawn from the images.
        MemoryError: if they are too large.
    """
    split = drawn_glyphs(config) if data is None else read_folder(data, config.size, config.seed)
    split.check(config)
    check_room(split.train.channels, config)
    source = "drawn glyphs" if data is None else f"`{data.name}`"
    out.mkdir(parents=True, exist_ok=True)
    table: list[Row] = []
    notes: dict[str, object] = {}
    with _progress(console) as report:
        features = feature_network(split, config, out, report)
        for shots in config.shots:
            tests, digits = _test_episodes(split.test, shots, config), _digit_episodes(split, shots, config)
            on_tests, on_digits = Accuracies(), Accuracies()
            store = _Store(out / "accuracies.json")
            arms = chain(
                untrained(features, shots, split, config),
                trained(features, shots, split, config, out, report),
            )
            for name, arm in arms:
                on_tests[name] = store.measured(f"{name}, {shots}-shot, test", arm, tests, report)
                if digits:
                    on_digits[name] = store.measured(f"{name}, {shots}-shot, digits", arm, digits, report)
                notes[f"{name}, {shots}-shot"] = describe(arm, tests)
            table += rows(shots, on_tests, on_digits)
    reached = demands(table, RIVALS)
    _write(out, results, facts(config, source, table, reached, notes))
    draw(split.train, tests, _path(out, results, "episode.png"))
    if page is not None:
        write_page(page, table, reached, source)
    for one in tables(table, reached):
        console.print(one)
    console.print(f"Curves: rl-lr board {out}", highlight=False, soft_wrap=True)
    return table, reached


def _test_episodes(classes: Classes, shots: int, config: FewShotConfig) -> Episodes:
    rng = np.random.default_rng([config.seed, 3])
    return draw_episodes(classes, config.test_episodes, config.ways, shots, config.queries, rng)


def _digit_episodes(split: Split, shots: int, config: FewShotConfig) -> Episodes | None:
    """Episodes of ten digits that no arm was trained on; none if an episode has more ways."""
    if config.ways > 10:
        return None
    return _test_episodes(digit_classes(config.size, split.train.channels), shots, config)


class _Store:
    """Accuracies in a file, so that what was measured is not measured again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: Accuracies = json.loads(path.read_text()) if path.is_file() else {}

    def measured(self, name: str, arm: Arm, episodes: Episodes, report: Report) -> list[float]:
        """Accuracy on each episode."""
        if name not in self._known:
            report(name, 0, 1, 0.0)
            self._known[name] = [round(value, 6) for value in accuracies(arm, episodes).tolist()]
            self._path.write_text(json.dumps(self._known))
        report(name, 1, 1, float(np.mean(self._known[name])))
        return self._known[name]


def describe(arm: Arm, episodes: Episodes) -> dict[str, object]:
    """What is worth knowing of an arm beside its accuracy: what was chosen, or learned."""
    if isinstance(arm, FineTuning):
        layers = "all layers" if arm.whole else "the head"
        return {"optimizer": arm.optimizer, "rate": arm.rate, "steps": arm.steps, "moves": layers}
    if isinstance(arm, NearestNeighbour):
        return {"likeness": "cosine" if arm.cosine else "distance"}
    if isinstance(arm, LearnedStart):
        return {"rate": float(arm.log_rate.detach().exp())}
    if isinstance(arm, MetaLearner):
        with torch.no_grad():
            _, gates = arm.adapt(next(episodes.parts(20)))
        return {
            "input gate by step: mean, least, most": [_spread(rates) for rates, _ in gates],
            "forget gate by step: mean, least, most": [_spread(kept) for _, kept in gates],
        }
    return {}


def _spread(gate: Tensor) -> list[float]:
    return [round(float(value), 5) for value in (gate.mean(), gate.min(), gate.max())]


def _write(out: Path, results: Path | None, found: dict[str, object]) -> None:
    write_json(_path(out, results, "results.json"), found)


def _path(out: Path, results: Path | None, name: str) -> Path:
    """``out/name``, or ``results/few-shot.ending``."""
    return out / name if results is None else results / f"few-shot{Path(name).suffix}"


@contextmanager
def _progress(console: Console) -> Iterator[Report]:
    """A bar for everything that is trained or measured."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[score]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        known: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int, score: float) -> None:
            if name not in known:
                known[name] = bar.add_task(name, total=total, score="")
            bar.update(known[name], completed=done, score=f"{100 * score:.1f} %" if score else "")

        yield report
