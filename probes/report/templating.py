"""The folder of the page's templates, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).resolve().parent / "templates"


def environment() -> jinja2.Environment:
    """Return a Jinja environment that escapes values and refuses unknown names."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        # Texts that models and tasks wrote reach the page: none may become markup.
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def text(name: str) -> str:
    """Return a style sheet or script."""
    return (FOLDER / name).read_text("utf-8")
