"""The documentation pages that `docs://{page}` serves: the Markdown files of `docs/`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# A checkout (and an editable install) has docs/ beside the packages.
FOLDER: Final = Path(__file__).parent.parent / "docs"
_PAGE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def page_names() -> list[str]:
    """Return the names of the pages; none in an installation without them."""
    return sorted(file.stem for file in FOLDER.glob("*.md") if _PAGE_NAME.fullmatch(file.stem))


def page_text(name: str) -> str | None:
    """Return a page, None when there is none of that name; only listed names are ever opened."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8") if name in page_names() else None
