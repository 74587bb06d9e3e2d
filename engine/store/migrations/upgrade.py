"""Bring a database to the newest schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from engine.errors import StorageFailed

if TYPE_CHECKING:
    from sqlalchemy import Connection


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration for the steps packaged here, run inside the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run the missing steps inside the transaction of `connection`."""
    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StorageFailed(
            "the database was made by a newer version of the program", fix="update the program, or use another file"
        ) from error
