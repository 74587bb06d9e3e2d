"""Options that several commands share, and the settings that come of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from server.settings import Settings

feed_option = click.option(
    "--feed",
    type=click.Choice(["bybit", "simulated"]),
    help="Where market data comes from (BST_FEED; default bybit).",
)
home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the database and caches (BST_HOME).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")


def settings_from(**flags: Any) -> Settings:
    """Return the settings of environment and `.env`, with flags that were given on top."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from engine.errors import BadRequest
    from server.settings import Settings

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        # The refused value is left out: it may be a secret.
        problems = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise BadRequest(f"settings: {problems}", fix=".env.example lists every setting with its values") from error
    except SettingsError as error:
        raise BadRequest("settings could not be read", fix="check the .env file against .env.example") from error
