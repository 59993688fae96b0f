"""Images of the few-shot comparison: glyphs, folders, splits, episodes, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from rl_lr.few_shot.config import FewShotConfig, small
from rl_lr.few_shot.dataset import Classes, digit_classes, drawn_glyphs, split
from rl_lr.few_shot.episodes import draw_episodes
from rl_lr.few_shot.folders import read_folder
from rl_lr.few_shot.glyphs import draw_class
from rl_lr.few_shot.room import check_room


def numbered(counts: list[int], size: int = 4) -> Classes:
    """Classes whose images hold ``100 · class + image`` in every pixel."""
    images = [
        torch.arange(count).view(-1, 1, 1, 1).expand(-1, 1, size, size) + 100.0 * i
        for i, count in enumerate(counts)
    ]
    return Classes("the set", tuple(f"c{i}" for i in range(len(counts))), tuple(images))


def values(images: Tensor) -> Tensor:
    return images[..., 0, 0, 0]


# --- glyphs ----------------------------------------------------------------------------------


def test_a_glyph_depends_on_its_seed_and_number_alone() -> None:
    first = draw_class(seed=3, index=7, examples=5, size=16)
    assert torch.equal(first, draw_class(3, 7, 5, 16))
    assert not torch.equal(first, draw_class(3, 8, 5, 16))
    assert not torch.equal(first, draw_class(4, 7, 5, 16))
    assert (first.shape, first.dtype) == ((5, 1, 16, 16), torch.float32)
    assert 0.0 <= float(first.min()) < 0.05
    assert 0.5 < float(first.max()) <= 1.0


def test_examples_of_a_glyph_are_more_alike_than_glyphs_are_but_not_the_same() -> None:
    images = torch.stack([draw_class(0, index, 10, 16).flatten(1) for index in range(30)])
    spread = images.var(dim=1).mean()
    between = images.mean(dim=1).var(dim=0).mean()
    assert spread > 0.01
    assert between > 2 * spread / 10  # a tenth, were all examples of one class


def test_parts_of_the_glyphs_share_no_class() -> None:
    parts = drawn_glyphs(small())
    names = [set(part.names) for part in (parts.train, parts.validation, parts.test)]
    assert [len(part) for part in names] == list(small().class_counts)
    assert len(set.union(*names)) == sum(small().class_counts)


@given(count=st.integers(5, 60), seed=st.integers(0, 1000))
def test_a_random_split_shares_no_class_and_loses_none(count: int, seed: int) -> None:
    classes = numbered([2] * count)
    parts = split(classes, seed)
    names = [name for part in (parts.train, parts.validation, parts.test) for name in part.names]
    assert sorted(names) == sorted(classes.names)


# --- episodes --------------------------------------------------------------------------------


def test_an_episode_holds_its_classes_in_the_order_of_its_labels_and_no_image_twice() -> None:
    drawn = draw_episodes(numbered([6] * 8), 20, ways=4, shots=2, queries=3, rng=np.random.default_rng(0))
    known, asked = values(drawn.support), values(drawn.query)
    for support, query in zip(known, asked, strict=True):
        of_support, of_query = support.view(4, 2) // 100, query.view(4, 3) // 100
        assert (of_support == of_support[:, :1]).all()
        assert (of_query == of_support[:, :1]).all()
        assert len(set(of_support[:, 0].tolist())) == 4
        assert len({*support.tolist(), *query.tolist()}) == 4 * 5
    assert drawn.support_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert drawn.query_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len({tuple(support.tolist()) for support in known}) == 20


def test_episodes_in_parts_are_the_same_episodes() -> None:
    drawn = draw_episodes(numbered([4] * 5), 7, 2, 1, 1, np.random.default_rng(0))
    parts = list(drawn.parts(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.query for part in parts]), drawn.query)


def test_digits_are_ten_classes_of_any_size() -> None:
    digits = digit_classes(16, 3)
    assert digits.names == tuple("0123456789")
    assert sum(len(images) for images in digits.images) == 1797
    assert digits.images[0].shape[1:] == (3, 16, 16)


# --- folders ---------------------------------------------------------------------------------


def paint(path: Path, value: int, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 0)
    Image.new(mode, (9, 7), colour).save(path)


def test_every_folder_of_images_is_a_class_at_any_depth(tmp_path: Path) -> None:
    for alphabet in ("greek", "latin"):
        for letter in range(5):
            for image in range(3):
                paint(tmp_path / alphabet / f"letter{letter}" / f"{image}.png", 10 * letter)
    (tmp_path / "greek" / "notes.txt").write_text("no image")
    parts = read_folder(tmp_path, 8, seed=0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [6, 2, 2]
    assert all(images.shape == (3, 1, 8, 8) for images in parts.train.images)
    value = dict(zip(parts.train.names, parts.train.images, strict=True))
    for name, images in value.items():
        assert torch.allclose(images, torch.full_like(images, 10 * int(name[-1]) / 255), atol=1e-6)


def test_folders_named_as_parts_are_the_parts(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for one in range(count):
            paint(tmp_path / part / f"n{one}" / "0.jpg", 50, "RGB")
    parts = read_folder(tmp_path, 8, seed=0)
    assert parts.train.names == ("train/n0", "train/n1", "train/n2")
    assert parts.validation.names == ("val/n0", "val/n1")
    assert parts.test.names == ("test/n0",)
    assert parts.train.channels == 3


def test_dark_strokes_on_white_become_bright_ones(tmp_path: Path) -> None:
    for one in range(5):
        paint(tmp_path / f"c{one}" / "0.png", 255)
    assert float(read_folder(tmp_path, 8, seed=0).train.images[0].max()) == 0.0


# --- what is refused, each in one sentence ------------------------------------------------------


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere is not a folder: give one that holds a folder of images"):
        read_folder(tmp_path / "nowhere", 8, 0)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    paint(tmp_path / "one.png", 0)
    with pytest.raises(ValueError, match=r"one\.png is not a folder: give one that holds a folder of images"):
        read_folder(tmp_path / "one.png", 8, 0)


def test_a_folder_with_zero_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds zero classes, and 0 images beside them: put the images"):
        read_folder(tmp_path, 8, 0)
    for one in range(3):
        paint(tmp_path / f"{one}.png", 0)
    with pytest.raises(ValueError, match=r"holds zero classes, and 3 images beside them: put the images"):
        read_folder(tmp_path, 8, 0)


@pytest.mark.parametrize("place", ["one.png", "class/one.png"])
def test_a_folder_with_one_image_is_refused(tmp_path: Path, place: str) -> None:
    paint(tmp_path / place, 0)
    with pytest.raises(ValueError, match=r"holds a single image: an episode needs several classes"):
        read_folder(tmp_path, 8, 0)


def test_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "one.png", 0)
    (tmp_path / "a" / "two.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"two\.png is no image that can be read .* remove or replace it"):
        read_folder(tmp_path, 8, 0)


def test_too_few_classes_for_a_split_are_refused(tmp_path: Path) -> None:
    for one in range(2):
        paint(tmp_path / f"c{one}" / "0.png", 0)
    with pytest.raises(ValueError, match=r"holds 2 classes, which leaves none for the .* part: add classes"):
        read_folder(tmp_path, 8, 0)


def test_zero_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the set holds zero classes: give a folder"):
        numbered([])


@given(held=st.integers(1, 8), more=st.integers(1, 5))
def test_fewer_classes_than_ways_are_refused(held: int, more: int) -> None:
    reason = rf"the set holds {held} classes, fewer than the {held + more} ways .* add classes, or lower ways"
    with pytest.raises(ValueError, match=reason):
        draw_episodes(numbered([5] * held), 1, held + more, 1, 1, np.random.default_rng(0))


@given(shots=st.integers(1, 6), queries=st.integers(1, 6))
def test_a_class_with_fewer_images_than_shots_and_queries_is_refused(shots: int, queries: int) -> None:
    classes = numbered([20, shots + queries - 1, 20])
    reason = (
        rf"'c1' of the set has {shots + queries - 1} images, fewer than the {shots + queries} that an episode"
    )
    with pytest.raises(ValueError, match=reason):
        draw_episodes(classes, 1, 2, shots, queries, np.random.default_rng(0))


def test_a_part_is_checked_before_anything_is_trained() -> None:
    parts = drawn_glyphs(replace(small(), test_classes=2))
    with pytest.raises(
        ValueError, match=r"the test part of the glyphs holds 2 classes, fewer than the 3 ways"
    ):
        parts.check(small())


def test_episodes_that_do_not_fit_into_memory_are_refused() -> None:
    check_room(1, FewShotConfig())
    with pytest.raises(MemoryError, match=r"10000000 shots .* GB are free: lower batch, ways, shots, size"):
        check_room(1, FewShotConfig(shots=(1, 10_000_000)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ways": 1}, r"ways is 1: it must be at least 2"),
        ({"shots": ()}, r"shots is \(\): give one number or several"),
        ({"shots": (5, 0)}, r"shots is \(5, 0\): give one number or several"),
        ({"queries": 0}, r"queries is 0: it must be at least 1"),
        ({"size": 20}, r"size is 20: 3 blocks halve it, so it must be a multiple of 8"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0: it must be a positive number"),
        ({"head_scale": float("nan")}, r"head_scale is nan: it must be a positive number"),
    ],
)
def test_settings_of_no_comparison_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(FewShotConfig(), **change)  # type: ignore[arg-type]
