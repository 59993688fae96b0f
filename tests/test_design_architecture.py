"""Networks as lists of layers: shapes, parameters, rules, and one sentence for what does not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rl_lr.design.architecture import Architecture, LayerSpace
from rl_lr.design.space import refuse, uniformly, walk

SPACE = LayerSpace()


def designs(count: int) -> list[Architecture]:
    return [SPACE.design(walk(SPACE, uniformly(np.random.default_rng(seed)))) for seed in range(count)]


def test_a_network_is_written_and_read() -> None:
    text = "conv(16,3) pool(2) dense(32)"
    assert str(Architecture.parse(text)) == text
    assert str(Architecture(())) == "linear"
    assert Architecture.parse("linear") == Architecture(())


def test_shapes_and_parameters_are_those_of_the_module() -> None:
    for design in designs(40):
        module = design.build((1, 12), 10)
        assert sum(p.numel() for p in module.parameters()) == design.parameters((1, 12), 10)
        assert module(torch.randn(3, 1, 12, 12)).shape == (3, 10)


def test_a_built_network_is_torchs_own_layers() -> None:
    design = Architecture.parse("conv(4,3) pool(3) dense(16)")
    torch.manual_seed(3)
    ours = design.build((1, 12), 10)
    torch.manual_seed(3)
    theirs = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 10)
    )  # fmt: skip
    x = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv(4,13)", r"conv\(4,13\) in 'conv\(4,13\)' is larger than the 12×12 pixels that are left"),
        ("pool(3) pool(2) conv(4,3)", r"conv\(4,3\) in .* is larger than the 2×2 pixels .* take at most 2"),
        ("conv(4,5) conv(4,5) pool(5)", r"pool\(5\) in .* is larger than the 4×4"),
        ("dense(16) conv(4,1)", r"conv\(4,1\) comes after a dense layer"),
    ],
)
def test_a_network_that_does_not_fit_its_input_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Architecture.parse(text).build((1, 12), 10)


@given(st.text(max_size=12).filter(lambda text: "(" not in text and text.strip() not in ("", "linear")))
def test_an_unknown_layer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="There is no layer"):
        Architecture.parse(text)


@pytest.mark.parametrize(
    "text", ["attention(4)", "conv(4)", "pool(2,2)", "dense(0)", "conv(a,b)", "dense(4) x"]
)
def test_a_layer_with_wrong_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"There is no layer .*: write conv\(channels,size\)"):
        Architecture.parse(text)


def test_every_walk_ends_in_a_network_that_fits_and_obeys_the_rules() -> None:
    for design in designs(200):
        design.shapes(SPACE.inputs)
        kinds = [type(layer).__name__ for layer in design.layers]
        assert len(kinds) <= SPACE.depth
        assert "PoolPool" not in "".join(kinds)
        assert kinds.count("Dense") <= 2
        assert SPACE.design(SPACE.actions(design)) == design


def test_the_space_offers_every_layer_that_fits_and_no_other() -> None:
    small = LayerSpace(inputs=(1, 3), channels=(4,), sizes=(1, 3, 5), pools=(2,), widths=(8,), depth=2)
    assert [small.words[one] for one in small.legal(())] == [
        "conv(4,1)",
        "conv(4,3)",
        "pool(2)",
        "dense(8)",
        "end",
    ]
    after = small.legal((small.words.index("conv(4,3)"),))
    assert [small.words[one] for one in after] == ["conv(4,1)", "dense(8)", "end"]
    assert small.legal((small.words.index("end"),)) == []


def test_an_illegal_action_is_explained() -> None:
    pool = SPACE.words.index("pool(2)")
    assert refuse(SPACE, (), pool) == ""
    assert refuse(SPACE, (pool,), pool).startswith(
        "pool(2) cannot come after pool(2): take one of conv(4,3), "
    )


def test_a_space_without_networks_is_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers of at least 1, got 0"):
        LayerSpace(depth=0)


def test_a_layer_of_another_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"conv\(64,3\) is not in this space"):
        SPACE.actions(Architecture.parse("conv(64,3)"))
