"""Families for choosing whose data nobody drew."""

import numpy as np
import torch

from rl_lr.tasks.natural import _LETTERS, photographs, pixels, prose, wine
from rl_lr.tasks.tensors import cross_entropy, squared_error


def test_prose_is_english() -> None:
    for seed in range(5):
        rows = prose(np.random.default_rng(seed)).data()[0]
        text = "".join(_LETTERS[code - 1] if code else "?" for code in rows.flatten().tolist())
        assert text.count(" the ") > len(text) / 500
        assert text.count("?") < len(text) / 100


def test_what_is_cut_out_of_a_photograph_is_not_shown() -> None:
    tasks = [photographs(np.random.default_rng(seed)) for seed in range(12)]
    assert {task.criterion for task in tasks} == {cross_entropy, squared_error}
    for task in tasks:
        x, y = task.data()
        hidden = x[:, [5, 6, 9, 10]]
        if task.criterion is squared_error:
            assert hidden.count_nonzero() == 0
            assert y.shape == (1500, 12)
            assert float(y.std()) > 0.3
        else:
            assert hidden.count_nonzero() > 0
            assert len(y.bincount()) == 4


def test_a_wine_is_not_told_by_what_is_asked() -> None:
    for seed in range(12):
        x, y = wine(np.random.default_rng(seed)).data()
        assert x.shape == (178, 12)
        if y.dim() == 2:
            assert (x - y).abs().amax(dim=0).min() > 0.5


def test_pixels_are_seen_by_waves_and_drawn_in_colour() -> None:
    x, y = pixels(np.random.default_rng(0)).data()
    assert x.shape == (48 * 48, 48)
    torch.testing.assert_close(x[:, :24].square() + x[:, 24:].square(), torch.ones(48 * 48, 24))
    picture = y.view(48, 48, 3)
    assert (picture[1:] - picture[:-1]).abs().mean() < 0.5 * picture.std()
