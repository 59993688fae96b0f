"""What a controlled optimizer logs, and how it gets into a logger."""

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from rl_lr.scheduler import RLScheduler
from rl_lr.signals import SIGNALS

Metrics = dict[str, float]


def log(trainer: Trainer, scheduler: RLScheduler, prefix: str, decided: bool, others: Metrics) -> None:
    """Rates; at decisions offset, action and signals, too; and others, to every logger of the Trainer."""
    metrics = rates(scheduler, prefix) | (decision(scheduler, prefix) if decided else {}) | others
    trainer.callback_metrics[f"{prefix}/lr"] = torch.tensor(scheduler.get_last_lr()[0])
    for logger in trainer.loggers:
        log_at_once(logger, metrics, trainer.global_step)


def rates(scheduler: RLScheduler, prefix: str) -> Metrics:
    """Rate and base rate of every parameter group."""
    metrics: Metrics = {}
    for index, (rate, base) in enumerate(zip(scheduler.get_last_lr(), scheduler.base_lrs, strict=True)):
        metrics[f"{prefix}/lr/group{index}"] = rate
        metrics[f"{prefix}/base_lr/group{index}"] = base
    return metrics


def decision(scheduler: RLScheduler, prefix: str) -> Metrics:
    """What the latest decision was, and made of; of the tensors of a network the mean."""
    if scheduler.latest_signals is None:
        return {}
    controller = scheduler.controller
    metrics = {
        f"{prefix}/offset": float(controller.offset.mean()),
        f"{prefix}/action": float(controller.last_action.mean()),
        f"{prefix}/guard_events": float(controller.guard_events[0]),  # all feel the same loss
        f"{prefix}/rewinds": float(controller.rewinds[0]),
    }
    values = scheduler.latest_signals.mean(dim=0).tolist()
    return metrics | {f"{prefix}/signal/{name}": value for name, value in zip(SIGNALS, values, strict=True)}


def log_at_once(logger: Logger, metrics: Metrics, step: int) -> None:
    """``logger.log_metrics``, for TensorBoard as one event: one per value took most of our time."""
    if isinstance(logger, TensorBoardLogger) and not logger._prefix:
        # Loaded by such a logger anyway; ranks that do not write have another experiment.
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        if isinstance(logger.experiment, SummaryWriter) and logger.experiment.file_writer:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            logger.experiment.file_writer.add_summary(Summary(value=values), step)
            return
    logger.log_metrics(metrics, step=step)
