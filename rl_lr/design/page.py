"""The page of ``rl-lr siblings design``: what the papers claim, what was measured, and where it falls short."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from rl_lr.design.architecture import Architecture
from rl_lr.design.cells import Cell
from rl_lr.design.drawing import draw_architecture, draw_cell
from rl_lr.intervals import interval

Results = dict[str, Any]
"""What :func:`rl_lr.design.measure.run_measure` writes as JSON."""

COLOURS = {"q-learning": "#c1272d", "reinforce": "#3b6ea5", "random": "#9a9a9a"}


def write_page(results: Results, out: Path, page: Path, console: Console) -> Path:
    """Figures into ``out``, the page, and its first table on the console."""
    figures = {
        "search": _curves(results),
        "network": draw_architecture(
            Architecture.parse(results["layers"]["best"]),
            tuple(results["layers"]["settings"]["space"]["inputs"]),
            10,
        ),
        "cell": draw_cell(Cell.parse(results["cells"]["best"])),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=100)
    rows = musts(results)
    table = Table("what must hold", "measured", "reached")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_text(results, rows, os.path.relpath(out, page.parent)), encoding="utf-8")
    return page


def musts(results: Results) -> list[tuple[str, str, str]]:
    """What was asked for, what was measured, and whether that is it."""
    rows = []
    for space, result in results.items():
        chance = result["agents"]["random"]["best_five_test"]
        for agent in ("q-learning", "reinforce"):
            ours = result["agents"][agent]["best_five_test"]
            rows.append(
                (
                    f"{space}: best five of {agent} above chance's, intervals apart",
                    f"{_pm(ours)} against {_pm(chance)}",
                    _yes(_low(ours) > _high(chance)),
                )
            )
    for space, shown in (("layers", _accuracy), ("cells", _loss)):
        result = results[space]
        for key, length in (("test", "short"), ("test-long", "long")):
            ours = result["finals"][key][result["best"]]
            for rival in result["rivals"]:
                theirs = result["finals"][key][rival]
                rows.append(
                    (
                        f"{space}: best found as good as `{rival}` or better, at most its parameters, {length} training",
                        f"{shown(ours)} against {shown(theirs)}",
                        _yes(_no_worse(ours, theirs))
                        + ("" if _apart(ours, theirs) else "; intervals overlap"),
                    )
                )
    return rows


def _no_worse(ours: Results, theirs: Results) -> bool:
    lower = float(np.mean(ours["losses"])) <= float(np.mean(theirs["losses"]))
    return lower and ours["parameters"] <= theirs["parameters"]


def _accuracy(final: Results) -> str:
    return f"accuracy {_pm([1.0 - loss for loss in final['losses']])}, {final['parameters']} parameters"


def _loss(final: Results) -> str:
    return f"loss {_pm(final['losses'])}, {final['parameters']} parameters"


def _pm(values: list[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}"


def _low(values: list[float]) -> float:
    mean, half = interval(values)
    return mean - half


def _high(values: list[float]) -> float:
    mean, half = interval(values)
    return mean + half


def _apart(ours: Results, theirs: Results) -> bool:
    a, b = ours["losses"], theirs["losses"]
    return _high(a) < _low(b) or _high(b) < _low(a)


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _curves(results: Results) -> Figure:
    """Best reward so far by children, the mean over searches with its 95 % interval."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, (space, result) in zip(figure.subplots(1, 2), results.items(), strict=True):
        for agent, summary in result["agents"].items():
            middle, half = (np.array(summary["curve"][key]) for key in ("mean", "half"))
            count = np.arange(1, len(middle) + 1)
            axes.plot(count, middle, color=COLOURS[agent], label=agent)
            axes.fill_between(count, middle - half, middle + half, color=COLOURS[agent], alpha=0.15, lw=0)
        bottom = min(summary["curve"]["mean"][0] for summary in result["agents"].values())
        axes.set(
            title=f"{space}: mean of {result['plan']['repeats']} searches, 95 % interval", xlabel="children"
        )
        axes.set_ylim(bottom=bottom - 0.02)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
    figure.axes[0].set_ylabel("best held-out accuracy so far")
    figure.axes[1].set_ylabel("best share of nats saved so far")
    return figure


def _agents_table(result: Results) -> str:
    lines = [
        "| agent | mean of all children | best five, as rewarded | best five, fresh seeds and test rows |",
        "|---|---|---|---|",
    ]
    for agent, one in result["agents"].items():
        cells = (_pm(one[key]) for key in ("mean", "best_five", "best_five_test"))
        lines.append(f"| {agent} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _text(results: Results, rows: list[tuple[str, str, str]], figures: str) -> str:
    layers, cells = results["layers"], results["cells"]
    must = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    plan, cell_plan = layers["plan"], cells["plan"]
    return f"""# Networks that design networks

An agent says a network layer by layer, or a recurrent cell node by node; each finished design is trained for a moment
under the default learning-rate policy on the batched engine, several seeds as one stack, and its accuracy on rows kept
apart is the agent's reward. No learning rate is tuned for any child: that is what the policy is for.

```
rl-lr design --space layers --agent q-learning --children 80 --out runs/design     # cells, reinforce, random
rl-lr design --resume runs/design                                                  # after Ctrl-C, a crash or kill -9
rl-lr siblings design                                                              # this page
```

After `import rl_lr.envs`, `gymnasium.make("rl_lr/Architecture-v0")` is the same as an environment, with a mask of legal
actions.

## What was asked, and what came of it
Means with 95 % intervals by Student's t. *Best five*: of each search the five designs with the highest rewards, trained
again from {plan["fresh"]} (layers) and {cell_plan["fresh"]} (cells) seeds that no search used and judged on test rows
that no search saw; the interval is over searches ({plan["repeats"]} by each agent for layers,
{cell_plan["repeats"]} for cells). Children were trained under the policy of checksum
`{layers["settings"]["policy"][:12]}`, its guard of law {layers["settings"]["law"]}. Rewards are accuracy for layers, and for cells the share of the nats of a blind guess
that is saved.

| what must hold | measured | reached |
|---|---|---|
{must}

![best so far by children]({figures}/search.png)

{_layers(layers, figures)}

{_cells(cells, figures)}

{_claims(layers, cells)}
"""


def _layers(layers: Results, figures: str) -> str:
    return f"""## Layers
MetaQNN (Baker et al., 1611.02167) and NAS-RL (Zoph & Le, 1611.01578) on scikit-learn's digits, each laid down somewhere
in a noisy field of 12×12 pixels, 900 to train on, {layers["settings"]["steps"]} optimizer steps. {layers["plan"]["children"]}
different children in every search.

{_agents_table(layers)}

The best found network with at most the parameters of the one made by hand, `{layers["rivals"][0]}`, chosen among the
six best rewards by judging them once more with fresh seeds on the rows of the searches:

![the best network]({figures}/network.png)"""


def _cells(cells: Results, figures: str) -> str:
    return f"""## Cells
NAS-RL's trees with four leaves, on characters of Python's standard library: {cells["settings"]["width"]} numbers in the
state, rows of {cells["settings"]["length"]} characters, {cells["settings"]["steps"]} steps. A cell has exactly the
parameters of an LSTM of the same width, whose step alone differs. {cells["plan"]["children"]} different children in every
search.

{_agents_table(cells)}

The best cell, chosen likewise:

![the best cell]({figures}/cell.png)"""


def _claims(layers: Results, cells: Results) -> str:
    return f"""## What the papers claim, and how far that is reproduced
| claim | here |
|---|---|
| MetaQNN: as ε falls, the networks that Q-learning samples get better, and its best beat hand-made ones of the same layer types (2700 children, CIFAR-10, SVHN, MNIST) | mean of all children {_pm(layers["agents"]["q-learning"]["mean"])} against {_pm(layers["agents"]["random"]["mean"])} by chance; the table above for the best. Images, networks and trainings are tiny |
| NAS-RL: a policy gradient finds better networks than random search at the same number of children (12 800 children, 800 GPUs) | {layers["plan"]["children"]} children each; the table above |
| NAS-RL: the found cell is better than the LSTM (Penn Treebank, cells of eight leaves, 400 CPUs) | trees of four leaves, short trainings; the table above. Nothing is said about trainings to the end, or of large cells |

Where it falls short of the papers, by construction:

- Children are judged after {layers["settings"]["steps"]} steps. What learns fast wins; what is best after a long training
  may be another network, which is why the finals are given at a second length, too ({layers["plan"]["long"]} steps for layers, {cells["plan"]["long"]} for cells).
- Skip connections, and NAS-RL's distributed controller with many replicas, are not here. Its two-layer controller is one
  layer of 32 units.
- Q-learning explores for a quarter of a search (the paper: more than half), its states do not tell the sizes of the
  last layer, its rewards are not shared out over the layers, and α = 0.05 (the paper: 0.01). REINFORCE makes four gradient
  steps on each batch of five children (PPO; the paper one), with a rate of 0.03. A hundredth of the papers' children
  leaves no time for less: with the papers' constants Q-learning was no better than chance here. These constants were set
  on a regression fitted to some 300 to 370 judged networks, none of them of a search in the table.
- The table is the second of its kind. In the first, of ten searches for layers and five for cells, other seeds, Q-learning's best
  five had 0.517 ± 0.034 against 0.464 ± 0.024 by chance, and after 40 children no agent was above chance for cells. So
  it was made again on fresh seeds, with twice the searches for layers and three times the children for cells.
- Where the first table says no, the claim is not shown here. What beats the LSTM is owed to the space of cells as much as to
  the agents: chance finds such cells, too.
- All searches share one file of judged children, since a result depends on the design alone; a child that two searches
  ask for is trained once and counts in both. A design that a search asks for twice counts once."""
