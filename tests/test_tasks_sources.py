"""What sequences and pictures are drawn from."""

from itertools import groupby

import numpy as np
import pytest
import torch

from rl_lr.tasks.networks import embedding
from rl_lr.tasks.sources import patches, patterns, pictures, text

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_text_is_rows_of_tokens_and_its_words_have_at_most_eight_letters(seed: int) -> None:
    rows, vocabulary = text(np.random.default_rng(seed))
    assert 0 <= int(rows.min()) <= int(rows.max()) < vocabulary
    if len(rows) > 1024:  # the others are no words
        letters = [len(list(run)) for token, run in groupby(rows.flatten().tolist(), bool) if token]
        assert max(letters) <= 8


def test_common_words_are_far_more_common_than_others() -> None:
    texts = (text(np.random.default_rng(seed))[0] for seed in SEEDS)
    for rows in texts:
        if len(rows) > 1024:
            words = "".join(map(chr, (rows.flatten() + 1).tolist())).split("\x01")
            _, counts = np.unique(words, return_counts=True)
            assert len(counts) > 30
            assert counts.max() > 10 * np.median(counts)


@pytest.mark.parametrize("seed", SEEDS)
def test_amplitudes_of_a_picture_fall_with_a_power_of_the_frequency(seed: int) -> None:
    drawn = pictures(np.random.default_rng(seed), 200, 32)
    assert float(drawn.std()) == pytest.approx(1.0)
    amplitude = torch.fft.fft2(drawn).abs().square().mean(dim=0).sqrt()[0, 1:16]
    slope = np.polyfit(np.log(torch.arange(1, 16).numpy()), amplitude.log().numpy(), 1)[0]
    assert -1.9 < slope < -0.7


@pytest.mark.parametrize("rough", [False, True])
def test_images_of_one_pattern_are_more_alike_than_others(rough: bool) -> None:
    for seed in SEEDS:
        x, y = patterns(np.random.default_rng(seed), 2000, 8, 3, rough)
        means = torch.stack([x[y == k].mean(dim=0).flatten() for k in range(3)])
        halves = torch.stack([x[1000:][y[1000:] == k].mean(dim=0).flatten() for k in range(3)])
        assert torch.cdist(halves, means).argmin(dim=1).tolist() == [0, 1, 2]


def test_embeddings_begin_as_wide_as_they_are_told() -> None:
    torch.manual_seed(0)
    for start in (0.02, 1.0):
        assert float(embedding(100, 80, start).weight.detach().std()) == pytest.approx(start, rel=0.05)
    assert float(embedding(100, 80).weight.detach().abs().max()) <= 0.1


def test_patches_are_squares_of_neighbours() -> None:
    place = torch.arange(64.0).view(1, 8, 8, 1).expand(-1, -1, -1, 3)
    squares = patches(place)[0].view(16, 4, 3)
    assert squares[0, :, 0].tolist() == [0.0, 1.0, 8.0, 9.0]
    assert squares[5, :, 2].tolist() == [18.0, 19.0, 26.0, 27.0]
