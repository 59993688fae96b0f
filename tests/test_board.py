"""The board on real TensorBoard files, and the same picture from them."""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from event_files import layout_of, logs
from fits import QUIET, ByHand, Module, rows, trainer
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.plugins.hparams import plugin_data_pb2
from torch import Tensor

from rl_lr import plot
from rl_lr.callbacks import ConvergenceBoard, RLLearningRate
from rl_lr.policy import Policy

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def fit(
    folder: Path, module: Module | None = None, policy: Any = "default", first: bool = False, **settings: Any
) -> None:
    logger = TensorBoardLogger(folder, name="", version="")
    callbacks = [RLLearningRate(policy), ConvergenceBoard(**settings)]
    trainer(*(callbacks[::-1] if first else callbacks), logger=logger).fit(module or Module(), rows())


def test_the_layout_has_four_charts_and_every_tag_in_it_was_logged(tmp_path: Path) -> None:
    fit(tmp_path)
    layout = layout_of(logs(tmp_path))
    assert list(layout) == ["convergence: loss and rate", "convergence: why"]
    assert [len(charts) for charts in layout.values()] == [2, 2]
    logged = logs(tmp_path).Tags()["scalars"]
    for charts in layout.values():
        for patterns in charts.values():
            assert patterns
            assert all(any(re.search(pattern, tag) for tag in logged) for pattern in patterns)


@pytest.mark.parametrize("first", [False, True])
def test_every_decision_is_shown_once_whichever_callback_comes_first(tmp_path: Path, first: bool) -> None:
    fit(tmp_path, first=first)
    events = logs(tmp_path)
    assert len({one.step for one in events.Scalars("convergence/rate")}) == 56
    assert len(events.Scalars("convergence/rate")) == 56
    for shown, real in zip(events.Scalars("convergence/offset"), events.Scalars("rl_lr/offset"), strict=True):
        assert shown.value == real.value
    rate = {one.step: 10.0**one.value for one in events.Scalars("convergence/rate")}
    for one in events.Scalars("rl_lr/lr/group0"):
        if one.step in rate:
            assert rate[one.step] == pytest.approx(one.value, rel=1e-4)


def test_the_loss_shown_is_the_mean_since_the_decision_before_as_a_logarithm(tmp_path: Path) -> None:
    class Remembers(Module):
        def __init__(self) -> None:
            super().__init__(lr=1e-4)
            self.losses: list[float] = []

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss: Tensor = super().training_step(batch, batch_idx)
            self.losses.append(float(loss.detach()))
            return loss

    module = Remembers()
    fit(tmp_path, module, Policy.keep())
    shown = [(one.step, one.value) for one in logs(tmp_path).Scalars("convergence/loss")]
    windows = list(pairwise([(0, 0.0), *shown]))[-20:]
    assert any(end - begin > 1 for (begin, _), (end, _) in windows)
    for (begin, _), (end, value) in windows:
        assert value == pytest.approx(math.log10(np.mean(module.losses[begin:end])), abs=1e-5)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # the second part saves nothing
def test_a_resumed_fit_shows_each_decision_once_and_hides_what_came_after_its_checkpoint(
    tmp_path: Path,
) -> None:
    def one(name: str, resume: Path | None = None, **settings: Any) -> None:
        saving = [] if resume else [ModelCheckpoint(tmp_path / f"saved {name}", "{epoch}", save_top_k=-1)]
        callbacks = (RLLearningRate(total_steps=160), ConvergenceBoard(figure_every=0), *saving)
        logger = TensorBoardLogger(tmp_path, name="", version=name)
        run = trainer(*callbacks, max_epochs=4, logger=logger, enable_checkpointing=bool(saving), **settings)
        run.fit(Module(), rows(), ckpt_path=resume)

    one("whole")
    one("resumed", max_steps=110)  # dies in its third epoch
    one("resumed", resume=tmp_path / "saved resumed" / "epoch=1.ckpt")
    whole, resumed = logs(tmp_path / "whole"), logs(tmp_path / "resumed")
    assert "convergence/rate" in resumed.Tags()["scalars"]
    for tag in resumed.Tags()["scalars"]:
        if tag.startswith(("convergence/", "rl_lr/signal/")):
            ours, theirs = ({one.step: one.value for one in log.Scalars(tag)} for log in (resumed, whole))
            assert ours == theirs
            assert len(resumed.Scalars(tag)) == len(ours)
    assert layout_of(resumed) == layout_of(whole)
    assert plot.read(tmp_path / "resumed") == plot.read(tmp_path / "whole")
    last = resumed.Images("convergence/run")[-1]
    assert last.step == 160
    assert last.encoded_image_string == whole.Images("convergence/run")[-1].encoded_image_string


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
    ours, base = (logs(tmp_path / run).Scalars("convergence/loss")[-1].value for run in ("ours", "base"))
    assert regret.value == pytest.approx(math.log(10.0) * (ours - base), rel=1e-4)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    row = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["policy"].string_value == "default"
    assert row["horizon"].number_value == 80
    without = logs(tmp_path / "base")
    assert "convergence/regret" not in without.Tags()["scalars"]
    content = without.SummaryMetadata("_hparams_/experiment").plugin_data.content
    columns = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    assert {one.name.tag for one in columns} == {"convergence/final_loss", "convergence/regret"}


def test_several_loggers_and_several_optimizers_and_none(tmp_path: Path) -> None:
    loggers = [
        TensorBoardLogger(tmp_path, name="", version="one"),
        CSVLogger(tmp_path, name="", version="csv"),
        TensorBoardLogger(tmp_path, name="", version="two"),
    ]
    trainer(RLLearningRate(), ConvergenceBoard(), logger=loggers).fit(ByHand(), rows())
    for name in ("one", "two"):
        assert len(layout_of(logs(tmp_path / name))) == 4
        assert all("SGD" in title or "Adam" in title for title in layout_of(logs(tmp_path / name)))
        assert logs(tmp_path / name).Scalars("convergence/Adam/loss")
    assert plot.run(tmp_path / "one", tmp_path / "two", "convergence/Adam").axes[0].lines
    for settings in ({"logger": False}, {"logger": CSVLogger(tmp_path)}, {"fast_dev_run": True}):
        board = ConvergenceBoard()
        trainer(RLLearningRate(), board, **settings).fit(Module(), rows())
        assert board.traces == {}


@pytest.mark.filterwarnings("ignore:Adam made a step in")
def test_two_optimizers_share_the_time_axis_of_the_trainer_and_each_has_its_regret(tmp_path: Path) -> None:
    fit(tmp_path / "base", ByHand(second_every=3), Policy.keep())
    fit(tmp_path / "ours", ByHand(second_every=3), baseline=tmp_path / "base")
    events = logs(tmp_path / "ours")
    for name in ("SGD", "Adam"):
        shown, logged = (events.Scalars(f"{prefix}/{name}/offset") for prefix in ("convergence", "rl_lr"))
        assert [(one.step, one.value) for one in shown] == [(one.step, one.value) for one in logged]
        assert len(events.Scalars(f"convergence/{name}/regret")) == 1


@pytest.mark.filterwarnings("ignore:The optimizers of this fit were replaced")
def test_an_optimizer_of_another_kind_that_comes_in_mid_fit_has_charts_from_then_on(tmp_path: Path) -> None:
    class Replace(pl.Callback):
        def on_train_epoch_start(self, run: Any, module: Any) -> None:
            if run.current_epoch == 1:
                run.strategy.optimizers = [
                    torch.optim.AdamW([module.network.weight], 0.01),
                    run.optimizers[1],
                ]

    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(RLLearningRate(), Replace(), ConvergenceBoard(), logger=logger).fit(ByHand(), rows())
    assert logs(tmp_path).Scalars("convergence/SGD/loss")
    assert logs(tmp_path).Scalars("convergence/AdamW/loss")


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
