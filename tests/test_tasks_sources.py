"""What sequences and pictures are drawn from."""

from itertools import groupby

import numpy as np
import pytest
import torch

from rl_lr.tasks.sources import patches, patterns, text

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


def test_images_of_one_pattern_are_more_alike_than_others() -> None:
    for seed in SEEDS:
        x, y = patterns(np.random.default_rng(seed), 2000, 8, 3)
        means = torch.stack([x[y == k].mean(dim=0).flatten() for k in range(3)])
        halves = torch.stack([x[1000:][y[1000:] == k].mean(dim=0).flatten() for k in range(3)])
        assert torch.cdist(halves, means).argmin(dim=1).tolist() == [0, 1, 2]


def test_patches_are_squares_of_neighbours() -> None:
    place = torch.arange(64.0).view(1, 8, 8, 1).expand(-1, -1, -1, 3)
    squares = patches(place)[0].view(16, 4, 3)
    assert squares[0, :, 0].tolist() == [0.0, 1.0, 8.0, 9.0]
    assert squares[5, :, 2].tolist() == [18.0, 19.0, 26.0, 27.0]
