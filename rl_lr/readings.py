"""Readings: what the sums of a window say as numbers without a unit, one column of signals each."""

import math

import torch
from torch import Tensor

from rl_lr.windows import History, Window

_COUNTED = 16  # losses that a standard error counts: the windows of longer runs would seem ever surer
_EPS = 1e-12


def of_losses(window: Window, history: History) -> dict[str, Tensor]:
    """Columns ``[runs]`` of what the losses of a window say; the history learns of them."""
    window.fold()
    count, total, squares = window.loss.unbind(1)
    now = total / count
    variance = (squares / count - now * now).clamp_min(0.0)
    error = variance / count.clamp_max(_COUNTED)
    best = torch.fmin(history.best_loss, now)
    first = torch.where(history.first_loss.isnan(), now, history.first_loss)
    # A loss at or below zero has no logarithm: measure it from just below the best seen.
    lowest = torch.where(best > 0, 0.0, best - 0.05 * (first - best).abs() - _EPS)

    last, fifth = history.losses[:, 0], history.losses[:, -1]
    fifth = torch.where(fifth.isnan(), first, fifth)
    before, after = torch.stack((last, fifth, first, now)), torch.stack((now, now, now, best))
    ratio = (before - lowest).clamp_min(_EPS) / (after - lowest).clamp_min(_EPS)
    drop_1, drop_5, drop_all, above_best = (torch.asinh(4.0 * ratio.log()) / 2.0).unbind()
    standard_error = (error + history.loss_variance).sqrt()
    noise = (variance.sqrt() / (now - lowest).abs().clamp_min(_EPS)).clamp_min(1e-6)
    columns = {
        "improvement_1": drop_1,
        "improvement_5": drop_5,
        "improvement_all": drop_all,
        "above_best": above_best,
        "loss_trend": torch.asinh((last - now) / standard_error.clamp_min(_EPS)) / 2.0,
        "loss_noise": noise.log() / 4.0,
    }
    history.losses = torch.cat((now[:, None], history.losses[:, :-1]), dim=1)
    history.first_loss, history.best_loss, history.loss_variance = first, best, error
    spread, length = history.first_spread, history.first_length
    history.first_spread = torch.where(spread.isnan(), variance.sqrt(), spread)
    history.first_length = torch.where(length.isnan(), count, length)
    return columns


def of_geometry(
    window: Window, history: History, start: Tensor | None, latest: Tensor | None, span: int
) -> dict[str, Tensor]:
    """Columns ``[runs]`` of what gradients and updates of a window say; the history learns of them.

    Args:
        window: sums over the steps that were measured.
        history: of earlier windows.
        start: sketch of the weights at the beginning of the window; None if nothing was measured yet.
        latest: sketch of the weights seen last, likewise.
        span: updates between the two, measured or not.
    """
    (gg, gu, gp), (_, uu, up), (_, _, pp) = (row.unbind(1) for row in window.products.unbind(1))
    grad_norm, update_norm = (gg / window.pairs).sqrt(), (uu / window.pairs).sqrt()
    latest = torch.zeros_like(window.gradient) if latest is None else latest
    moved = latest - (latest if start is None else start)
    moved = moved.nan_to_num(0.0, 0.0, 0.0)
    distance, weight_norm, total_gradient = (
        torch.linalg.vector_norm(rows, dim=1).double() for rows in (moved, latest, window.gradient)
    )
    log_grad = grad_norm.log()
    log_grad = torch.where(log_grad.isfinite(), log_grad, math.nan)
    last, first = history.log_gradient.unbind(1)
    first = torch.where(first.isnan(), log_grad, first)
    over_window = (_cosine(direction, history.displacement) for direction in (window.gradient, moved))
    cosines = torch.stack((gu, up, gp)) / torch.stack((gg * uu, pp * uu, gg * pp)).sqrt()
    with_update, own_descent, memory, window_gradient, window_momentum = _spread(
        torch.cat((cosines, torch.stack(tuple(over_window))))
    ).unbind()
    columns = {
        "hypergradient": -with_update,
        "own_descent": -own_descent,
        "curvature": (1.0 - gu / up).clamp(-1.0, 4.0),
        "gradient_memory": memory,
        "straightness": 2.0 * distance / (span * update_norm) - 1.0,
        "window_hypergradient": -window_gradient,
        "window_momentum": window_momentum,
        "gradient_snr": (total_gradient / (window.pairs * grad_norm)).log() / 2.0,
        "gradient_change_1": torch.tanh(log_grad - last),
        "gradient_change_all": (log_grad - first) / 3.0,
        "relative_update": ((update_norm / weight_norm).log() + 6.0) / 3.0,
    }
    history.displacement = moved
    history.log_gradient = torch.stack((torch.where(log_grad.isnan(), last, log_grad), first), dim=1)
    return columns


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine between rows, ``[runs]`` float64; NaN where a row is zero."""
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    cosine: Tensor = torch.linalg.vecdot(a, b) / norms
    return cosine.double()


def _spread(cosine: Tensor) -> Tensor:
    """Spread a cosine so that the small values of high dimensions are told apart.

    ``asinh(20 c) / 2``: near zero it multiplies by 10, at ±1 it gives ±1.84.
    """
    return torch.asinh(20.0 * cosine) / 2.0
