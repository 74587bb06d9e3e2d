"""What `bst doctor` looks at: each check finds out one thing and says how to mend it."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from engine.errors import LabError
from server.clients import CLIENTS, configuration_path, is_configured, read_configuration
from server.interruption import run_until_stopped
from tools.lab import describe_answerer

if TYPE_CHECKING:
    from engine.ports import Clock, Feed
    from engine.store import Store
    from server.settings import Settings

PACKAGES: Final = ("server", "tools", "agents", "engine")
DISTRIBUTION: Final = "bybit-strategy-tester"
OLDEST_PYTHON: Final = (3, 11)
# Closed candles are decided by the exchange's clock, so skew harms nothing but default ranges and log times.
SKEW_WARNING_MS: Final = 30_000
EXCHANGE_PATIENCE_S: Final = 10
OFFLINE_FIX: Final = "check the network; `--feed simulated` and stored candles work without it"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check : str
    state : {"ok", "warning", "failed"}
        Only `failed` keeps the product from working.
    found : str
    fix : str
        What to do about it; empty when there is nothing to do.
    """

    check: str
    state: Literal["ok", "warning", "failed"]
    found: str
    fix: str = ""


def diagnose(settings: Settings, *, reach_agents: bool = False) -> list[Finding]:
    """Run every check, in the order in which one depends on the other; agents' addresses only when asked."""
    findings = [check_python(), check_packages(package_origins()), check_settings(settings), check_home(settings.home)]
    findings += run_until_stopped(check_parts(settings))
    findings += [check_compiler(), *check_agents(settings, reach=reach_agents), check_clients()]
    return findings


def check_python() -> Finding:
    """Check the interpreter's version."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "failed", found, "install Python 3.11 or newer (`uv python install 3.12`)")
    return Finding("python", "ok", found)


def package_origins() -> dict[str, Path | None]:
    """Return the folder that each of our four package names is imported from."""
    origins: dict[str, Path | None] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places: Iterable[str] = (spec.submodule_search_locations or ()) if spec else ()
        origins[name] = next((Path(place).resolve() for place in places), None)
    return origins


def check_packages(origins: dict[str, Path | None]) -> Finding:
    """Check that the four names mean our packages: other projects ship packages called `agents` and `tools`."""
    root = Path(__file__).resolve().parent.parent
    strangers = [f"{name} from {origin}" for name, origin in origins.items() if origin != root / name]
    if strangers:
        return Finding(
            "packages",
            "failed",
            f"another project's package answers: {'; '.join(strangers)}",
            "install into an environment of its own (`uv sync` in the repository, or `uv tool install`)",
        )
    try:
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return Finding("packages", "warning", f"run from {root}, not installed", "run `uv sync` in the repository")
    return Finding("packages", "ok", f"{DISTRIBUTION} {version} in {root}")


def check_settings(settings: Settings) -> Finding:
    """Name the settings that differ from their defaults; secrets are named, never shown."""
    changed = [
        str(type(settings).model_fields[name].validation_alias or name) for name in sorted(settings.model_fields_set)
    ]
    return Finding("settings", "ok", f"set: {', '.join(changed)}" if changed else "all defaults")


def check_home(home: Path) -> Finding:
    """Check that the folder of database and caches can be written."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix="doctor-"):
            pass
    except OSError as error:
        return Finding("home", "failed", f"{home}: {error.strerror}", "set BST_HOME to a folder you may write to")
    return Finding("home", "ok", str(home))


async def check_parts(settings: Settings) -> list[Finding]:
    """Open the database as the server does, then ask the exchange for its time."""
    from engine.market.clock import SystemClock
    from engine.store import Store
    from server.assembly import open_feed

    try:
        store = await Store.open(settings.store_url)
    except (LabError, OSError) as error:
        found = error.message if isinstance(error, LabError) else str(error.strerror)
        return [Finding("database", "failed", found, getattr(error, "fix", "") or "check DATABASE_URL and BST_HOME")]
    clock = SystemClock()
    try:
        database = await check_database(store)
        feed = open_feed(settings, clock, store)
        try:
            exchange = await check_exchange(feed, clock)
        finally:
            await feed.close()
    finally:
        await store.close()
    return [database, exchange]


async def check_database(store: Store) -> Finding:
    """Check that the database is whole; opening it has brought its tables up to date."""
    try:
        found = await store.check()
    except LabError as error:
        return Finding("database", "failed", error.message, error.fix)
    if found != "ok":
        return Finding("database", "failed", found, "restore a copy, or move the file away; candles are fetched again")
    return Finding("database", "ok", "opens, tables up to date, quick check passed")


async def check_exchange(feed: Feed, clock: Clock) -> Finding:
    """Ask the exchange for its time; without it stored candles still serve, so it is a warning."""
    try:
        async with asyncio.timeout(EXCHANGE_PATIENCE_S):
            skew_ms = await feed.server_time_ms() - clock.now_ms()
    except LabError as error:
        return Finding("exchange", "warning", error.message, error.fix or OFFLINE_FIX)
    except TimeoutError:
        return Finding("exchange", "warning", f"no answer within {EXCHANGE_PATIENCE_S} s", OFFLINE_FIX)
    found = f"{describe_answerer(feed)}; its clock is {skew_ms / 1000:+.1f} s from ours"
    if abs(skew_ms) > SKEW_WARNING_MS:
        return Finding("exchange", "warning", found, "set this computer's clock (time synchronisation)")
    return Finding("exchange", "ok", found)


def check_compiler() -> Finding:
    """Compile a function and look where compiled kernels are kept."""
    try:
        from numba import njit

        @njit
        def double(value: int) -> int:
            return 2 * value

        works = double(21) == 42
        from engine.core.kernel import run_bars

        folder = Path(str(run_bars.stats.cache_path))
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(
            "compiler", "failed", f"numba does not work: {error}", "reinstall: `uv sync --reinstall-package numba`"
        )
    if not works:
        return Finding(
            "compiler", "failed", "numba computes wrong results", "reinstall: `uv sync --reinstall-package numba`"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-"):
            pass
    except OSError:
        slow = f"compiles, but cannot keep the result in {folder}"
        return Finding(
            "compiler", "warning", slow, "every start compiles anew; set NUMBA_CACHE_DIR to a writable folder"
        )
    return Finding("compiler", "ok", f"numba compiles; kernels are kept in {folder}")


def check_agents(settings: Settings, *, reach: bool) -> list[Finding]:
    """Name the agents that can be asked and what the others lack; without any the calling model answers."""
    from agents.providers import agents_of

    try:
        agents = agents_of(settings.agents())
    except LabError as error:
        return [Finding("agents", "failed", error.message, error.fix)]
    usable = [agent for agent in agents.values() if agent.is_usable]
    lacking = "; ".join(
        dict.fromkeys(f"{agent.name}: {agent.unusable_because}" for agent in agents.values() if not agent.is_usable)
    )
    if not usable:
        return [Finding("agents", "ok", f"none, so questions go to the calling model ({lacking})")]
    named = ", ".join(f"{agent.name} ({agent.model})" for agent in usable)
    findings = [Finding("agents", "ok", f"{named}" + (f"; not usable: {lacking}" if lacking else ""))]
    if reach:
        addresses = {agent.base_url: agent.name for agent in usable if agent.base_url}
        findings += [check_address(name, address) for address, name in addresses.items()]
    return findings


def check_address(agent: str, address: str) -> Finding:
    """Open a connection to an agent's base address; no question is asked and nothing is paid."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=EXCHANGE_PATIENCE_S):
            return Finding("agent", "ok", f"{agent}: somebody listens at {parts.hostname}:{port}")
    except OSError as error:
        found = f"{agent}: {parts.hostname}:{port} cannot be reached: {error.strerror or type(error).__name__}"
        return Finding("agent", "warning", found, "start the server, or check the base address and the network")


def check_clients() -> Finding:
    """Name the MCP clients whose configuration starts this server."""
    configured: list[str] = []
    for name, configuration in CLIENTS.items():
        path = configuration_path(name)
        try:
            if is_configured(name, read_configuration(path)):
                configured.append(configuration.title)
        except (LabError, OSError) as error:
            return Finding("clients", "warning", f"{path}: {error}", "mend the file; its client cannot read it either")
    if not configured:
        return Finding(
            "clients", "warning", "no MCP client is configured", "bst install-client vscode --write (or another)"
        )
    return Finding("clients", "ok", ", ".join(configured))
