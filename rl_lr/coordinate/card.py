"""The model card of a policy that sets a step for every coordinate."""

from rl_lr.card import how_it_was_trained
from rl_lr.coordinate.policy import CoordinatePolicy


def coordinate_card(policy: CoordinatePolicy) -> str:
    """Markdown that says what a policy is, how it was trained and what it was measured on."""
    facts = policy.provenance
    measured = facts.get("validation", {}).get("loss", float("nan"))
    settings = facts.get("settings", {})
    return f"""# Coordinate-wise policy of rl-lr

Use it as `rl_lr.coordinate.LearnedOptimizer(params, policy="this folder")`. It is told the gradient of a weight, and says
by how much that weight moves.

{how_it_was_trained(facts, policy.sha256)}

## What it was measured on
{settings.get("validation_runs", "?")} runs of the same tasks, kept apart from training, of {settings.get("steps", "?")} steps:
mean loss at the end {measured:.4g} times that at the start. The best iteration was chosen by it.

## Limits
It knows the gradients of what it was trained on, their size included, and runs of that length. On other networks, and far
beyond that length, it may stop short or diverge: compare it with a tuned optimizer first.
"""
