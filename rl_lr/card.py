"""The model card of a trained policy."""

from typing import Any

from rl_lr.policy import Policy

BUILT_IN_TASKS = "built-in training families"
"""What a policy's provenance calls the tasks of a training that was given none, or these by name."""


def model_card(policy: Policy) -> str:
    """Markdown that says what a policy is, how it was trained and what it was measured on."""
    facts = policy.provenance
    measured = facts.get("validation", {})
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:+.3f} |" for name, value in measured.items())
    drawn = facts.get("settings", {}).get("draw", {})
    seen = "the tasks named above and runs as long as there"
    if facts.get("tasks") == BUILT_IN_TASKS:
        seen = f"small networks and runs of {drawn['min_steps']} to {drawn['max_steps']} steps"
    return f"""# Learning-rate policy of rl-lr

Load it with `rl_lr.Policy.load("this folder")`, or pass the folder to `RLLearningRate(policy=...)`.

{how_it_was_trained(facts, policy.sha256)}

## What it was measured on
Runs of the same tasks, kept apart from training; nats of the floored log loss, lower is better,
below zero is better than the comparison.

| figure | nats |
|---|---|
{rows}

## Limits
Trained on {seen}. It sees no learning rate and no loss value, only
dimensionless signals; on networks unlike its training tasks it may settle on a rate that is off.
"""


def how_it_was_trained(facts: dict[str, Any], sha256: str) -> str:
    """The section of a card on a policy's origin, from its provenance and checksum."""
    chosen = facts.get("settings", {})
    settings = "\n".join(f"- `{name}`: {value}" for name, value in chosen.items())
    others = "Its kernels are meant to round alike on any x86-64 processor with AVX2"
    if not chosen.get("portable"):
        others = "Another kind rounds differently and may make another policy"
    return f"""## How it was trained
{facts.get("agent", "unknown agent")}, {facts.get("runs", "?")} runs in {facts.get("iterations", "?")} iterations,
{facts.get("minutes", "?")} minutes. Tasks: {facts.get("tasks", "unknown")}.
Command `{facts.get("command", "unknown")}`, commit `{facts.get("commit") or "unknown"}`.
Versions: {", ".join(f"{name} {number}" for name, number in facts.get("versions", {}).items())}.
Processor: {facts.get("processor", "unknown")}. {others}.
Checksum: `{sha256}`.

{settings}"""
