"""The board on real TensorBoard files, and the same picture from them."""

import math
from pathlib import Path
from typing import Any

import pytest
from fits import QUIET, ByHand, Module, rows, trainer
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from rl_lr import plot
from rl_lr.callbacks import ConvergenceBoard, RLLearningRate
from rl_lr.policy import Policy

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def logs(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def fit(folder: Path, module: Module | None = None, policy: Any = "default", **settings: Any) -> None:
    logger = TensorBoardLogger(folder, name="", version="")
    board = ConvergenceBoard(**settings)
    trainer(RLLearningRate(policy), board, logger=logger).fit(module or Module(), rows())


def layout_of(events: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    stored = layout_pb2.Layout()
    stored.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    return {
        one.title: {chart.title: list(chart.multiline.tag) for chart in one.chart} for one in stored.category
    }


def test_the_layout_has_four_charts_and_every_tag_in_it_was_logged(tmp_path: Path) -> None:
    fit(tmp_path)
    events = logs(tmp_path)
    layout = layout_of(events)
    assert list(layout) == ["convergence"]
    assert len(layout["convergence"]) == 4
    logged = set(events.Tags()["scalars"])
    for tags in layout["convergence"].values():
        assert tags
        assert {tag.removesuffix("$") for tag in tags} <= logged


def test_every_decision_is_shown_once(tmp_path: Path) -> None:
    fit(tmp_path)
    events = logs(tmp_path)
    assert len({one.step for one in events.Scalars("convergence/rate")}) == 56
    assert len(events.Scalars("convergence/rate")) == 56
    for shown, real in zip(events.Scalars("convergence/offset"), events.Scalars("rl_lr/offset"), strict=True):
        assert shown.value == real.value
    rate = {one.step: 10.0**one.value for one in events.Scalars("convergence/rate")}
    for one in events.Scalars("rl_lr/lr/group0"):
        if one.step in rate:
            assert rate[one.step] == pytest.approx(one.value, rel=1e-4)


def test_figures_come_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    fit(tmp_path / "often", figure_every=14)
    fit(tmp_path / "end", figure_every=0)
    assert [one.step for one in logs(tmp_path / "often").Images("convergence/run")][-1] == 80
    assert len(logs(tmp_path / "often").Images("convergence/run")) == 5
    assert len(logs(tmp_path / "end").Images("convergence/run")) == 1


def test_a_row_and_a_text_tell_policy_checksum_horizon_and_regret(tmp_path: Path) -> None:
    fit(tmp_path / "base", policy=Policy.keep())
    fit(tmp_path / "ours", baseline=tmp_path / "base")
    events = logs(tmp_path / "ours")
    text = events.Tensors("convergence/policy/text_summary")[0].tensor_proto.string_val[0].decode()
    assert Policy.load("default").sha256 in text
    assert "80 steps" in text
    (regret,) = events.Scalars("convergence/regret")
    assert math.isfinite(regret.value)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    row = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["policy"].string_value == "default"
    assert row["horizon"].number_value == 80


def test_several_loggers_and_several_optimizers_and_none(tmp_path: Path) -> None:
    loggers = [
        TensorBoardLogger(tmp_path, name="", version="one"),
        CSVLogger(tmp_path, name="", version="csv"),
        TensorBoardLogger(tmp_path, name="", version="two"),
    ]
    trainer(RLLearningRate(), ConvergenceBoard(), logger=loggers).fit(ByHand(), rows())
    for name in ("one", "two"):
        assert set(layout_of(logs(tmp_path / name))) == {"convergence/SGD", "convergence/Adam"}
        assert logs(tmp_path / name).Scalars("convergence/Adam/loss")
    board = ConvergenceBoard()
    trainer(RLLearningRate(), board).fit(Module(), rows())
    assert board.traces == {}


def test_the_picture_from_the_logs_shows_loss_rate_and_offset_beside_a_baseline(tmp_path: Path) -> None:
    fit(tmp_path / "base", policy=Policy.keep())
    fit(tmp_path / "ours")
    figure = plot.run(tmp_path / "ours", tmp_path / "base")
    assert isinstance(figure, Figure)
    top, middle, bottom = figure.axes
    assert [line.get_label() for line in top.lines] == ["this run", "baseline"]
    assert [line.get_label() for line in middle.lines] == ["rate", "base schedule alone", "baseline"]
    assert len(bottom.lines[-1].get_xdata()) == 56  # type: ignore[arg-type]
    figure.savefig(tmp_path / "run.png")


def test_bad_input_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="figure_every is -1"):
        ConvergenceBoard(figure_every=-1)
    with pytest.raises(ValueError, match=r"holds no scalars convergence/loss: give the folder of one run"):
        plot.run(tmp_path)
    with pytest.raises(ValueError, match="holds no scalars"):
        fit(tmp_path / "ours", baseline=tmp_path / "nothing")
