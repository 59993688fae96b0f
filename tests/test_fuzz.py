"""Mutated policy files: whatever is done to them, ``PolicyFileError`` or a policy, and nothing else.

A share of the mutants is signed again, so that what lies behind the checksum is reached as well.
"""

import hashlib
import json
import random
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_lr.policy import CONFIG_FILE, WEIGHTS_FILE, Policy, PolicyFileError
from rl_lr.signals import NUM_SIGNALS

MUTANTS, MOST_MEMORY = 10_000, 256 * 2**20
"""Bytes by which loading may enlarge the address space of the process."""

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**30,
    "",
    "x" * 1000,
    [],
    {},
    [[[]]],
    {"a": {"b": 1}},
    [1] * 1000,
    2**63,
    -0.5,
]


@contextmanager
def address_space(extra: int) -> Iterator[None]:
    """The process may grow by ``extra`` bytes and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    """Cut, flipped, repeated or spliced."""
    mutant = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(mutant) + 1)
        match rng.randrange(5):
            case 0:
                mutant = mutant[:place]
            case 1 if mutant:
                mutant[place % len(mutant)] ^= 1 << rng.randrange(8)
            case 2:
                mutant[place:place] = mutant[: rng.randrange(64)]
            case 3:
                mutant[place : place + rng.randrange(64)] = b""
            case _:
                mutant[place:place] = rng.randbytes(rng.randrange(16))
    return bytes(mutant)


def values_changed(rng: random.Random, value: Any) -> Any:
    """Some member of a JSON value exchanged, dropped or added."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        changed = dict(value)
        match rng.randrange(4):
            case 0:
                del changed[key]
            case 1:
                changed["surprise"] = rng.choice(ODD)
            case _:
                changed[key] = values_changed(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [*value[:place], values_changed(rng, value[place]), *value[place + 1 :]]
    return rng.choice(ODD)


def header_changed(rng: random.Random, content: bytes) -> bytes:
    """Weights whose header lies: about shapes, types, places, or its own length."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(values_changed(rng, json.loads(content[8 : 8 + length]))).encode()
    stated = rng.choice([len(header), len(header), len(header), 0, 2**40, 2**63, len(header) + 7])
    return struct.pack("<Q", stated) + header + content[8 + length :]


def mutants(seed: int, config: bytes, weights: bytes) -> tuple[bytes, bytes]:
    """A configuration and weights, one of them or both spoiled; half of them signed as if by us."""
    rng = random.Random(seed)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes_changed(rng, config), weights
    if kind == 1:
        return config, bytes_changed(rng, weights)
    stated = json.loads(config)
    if kind == 2:
        stated = values_changed(rng, stated)
    else:
        weights = header_changed(rng, weights)
    if isinstance(stated, dict) and rng.random() < 0.8:
        stated.pop("sha256", None)
        signed = json.dumps(stated, sort_keys=True).encode() + b"\0" + weights
        stated["sha256"] = hashlib.sha256(signed).hexdigest()
    return json.dumps(stated).encode(), weights


@pytest.mark.compatibility(
    "Policy files", "10 000 mutated files", "refused with one sentence each; nothing is executed"
)
def test_mutated_files_are_refused_or_act(tmp_path: Path, make_policy: Callable[[int], Policy]) -> None:
    folder = make_policy(1).save(tmp_path / "policy")
    config, weights = ((folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE))
    messages, loaded = [], 0
    with address_space(MOST_MEMORY):
        for seed in range(MUTANTS):
            spoiled = mutants(seed, config, weights)
            for name, content in zip((CONFIG_FILE, WEIGHTS_FILE), spoiled, strict=True):
                (folder / name).write_bytes(content)
            try:
                policy = Policy.load(folder)
            except PolicyFileError as error:
                messages.append(str(error))
            else:
                loaded += 1  # what changed was its provenance, or a constant that may have that value
                actions = policy.act(torch.zeros(2, NUM_SIGNALS))
                assert actions.isfinite().all()
                assert actions.abs().max() <= 1.0
    assert not any("\n" in message for message in messages)
    assert len(messages) > 0.8 * MUTANTS
    assert loaded > 0.002 * MUTANTS  # the signatures are right: mutants come all the way
