"""How Sphinx builds these pages: ``make docs``. Everything comes from this checkout, nothing from the network."""

from importlib.metadata import version as installed
from typing import Any

from sphinx.application import Sphinx

project, author = "rl-lr", "the rl-lr contributors"
version = release = installed("rl-lr")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["results/policies"]  # their cards

myst_heading_anchors = 3

# Signatures stay short: types stand with the arguments that the docstring explains.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# A link to a name of ours that leads nowhere is an error; other packages' names are not looked up.
nitpicky = True
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(collections|gym|gymnasium|matplotlib|np|numpy|nn|os|pathlib|pytorch_lightning|torch|transformers)\..*",
    ),
    (r"py:.*", r"(.*\.)?(Lightning(Data)?Module|MisconfigurationException|OrderT|ResultT)"),
    (r"py:.*", r"rl_lr\.design\.(problems\.D|space\.D_co)"),  # type variables
]

html_theme = "furo"  # system fonts only
html_title = f"rl-lr {version}"
html_static_path, html_css_files = ["_static"], ["width.css"]
html_copy_source = html_show_copyright = False

_texts: dict[str, list[str]] = {}  # of attributes, by name


def setup(app: Sphinx) -> None:
    """Keep Napoleon from attributes: of "A: largest change" it would make a type and a text."""
    app.connect("autodoc-process-docstring", _put_aside, priority=400)
    app.connect("autodoc-process-docstring", _put_back, priority=600)


def _put_aside(_: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        _texts[name] = list(lines)


def _put_back(_: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _texts.pop(name, lines)
