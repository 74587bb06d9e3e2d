"""Mounts the catalogue on the SDK's server: lean strict schemas, one result policy, and engine errors as tool errors."""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import ConfigDict

from engine.errors import LabError
from server.arguments import StrictMetadata
from server.completions import add_completions
from server.lab_server import LabServer
from server.lifespan import LabKeeper, lab_lifespan
from server.prompts import add_prompts
from server.resources import add_resources
from server.result_policy import MAX_CHARACTERS, ResultPolicy, error_result
from server.tasks.extension import TasksExtension
from server.tasks.job_tasks import JobTasks
from server.tasks.task import TaskSource
from tools.catalog import Selection, select
from tools.declare import ToolDef
from tools.progress import PacedProgress

if TYPE_CHECKING:
    from server.settings import Settings
    from tools.lab import Lab

INSTRUCTIONS = """\
Honest strategy research on Bybit markets: data, backtests, judgement. It never trades and needs no key.

Order of work: search_instruments -> list_strategies or validate_strategy -> run_backtest -> get_trades. run_backtest and \
get_candles fetch missing candles themselves when that is quick; otherwise they answer with data_missing and the start_backfill \
call to make, then wait_for_job until its state is done.

Handles: run_... (a stored backtest), job_... (background work; survives a restart). They never expire; list_runs and list_jobs find them.
Units: times are ISO 8601 UTC, start inclusive, end exclusive; returns and drawdowns are fractions (0.05 = 5 %), arguments named \
*_percent are percent; money is in the settlement currency. null comes with a reason, never a made-up number.
A result with "source": "simulated" rests on generated candles, "replay" on local files; say so when you quote it.
Naming a study in run_backtest counts every strategy tried and seals the end of that market for all tools ("withheld"); when one run is \
chosen, ask the user, then open_holdout: once, for good.
Every answer states its data, costs and conventions; quote them with the figures. Errors carry "fix": the argument or the next call.
"""

# What a cell of a columnar answer can be.
CELL_TYPES = ("number", "string", "boolean", "null")


def strip_titles(schema: Any) -> Any:
    """Return the schema without generated titles; a property that is called title stays."""
    if isinstance(schema, dict):
        return {
            key: (
                {name: strip_titles(value) for name, value in part.items()}
                if key in ("properties", "$defs") and isinstance(part, dict)
                else strip_titles(part)
            )
            for key, part in schema.items()
            if not (key == "title" and isinstance(part, str))
        }
    return [strip_titles(part) for part in schema] if isinstance(schema, list) else schema


def annotations_of(tool: ToolDef) -> ToolAnnotations:
    """Derive all four hints; the protocol's defaults are pessimistic, so none is left out."""
    return ToolAnnotations(
        title=tool.title,
        read_only_hint=tool.effect == "reads",
        destructive_hint=tool.effect == "deletes",
        idempotent_hint=True,
        open_world_hint=tool.third_party_text,
    )


def to_sdk_tool(tool: ToolDef) -> Tool:
    """Turn a declaration into the SDK's tool: unknown arguments refused, no titles, engine errors told with their fix."""
    sdk_tool = Tool.from_function(
        _telling_errors(tool.function),
        name=tool.name,
        title=tool.title,
        description=tool.description,
        annotations=annotations_of(tool),
    )
    metadata = sdk_tool.fn_metadata
    base = metadata.arg_model
    # Built at the first call: a server has some fifty tools, a conversation calls a few.
    config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", defer_build=True)
    strict = type(base.__name__, (base,), {"model_config": config, "__module__": base.__module__})
    # What forbidding more adds to the schema; generating it once more would cost a tenth of a server's start.
    full = {"additionalProperties": False} | strip_titles(sdk_tool.parameters)
    sdk_tool.parameters = lean(full)
    sdk_tool.fn_metadata = StrictMetadata(
        arg_model=strict,
        output_schema=or_error(name_cells(strip_titles(metadata.output_schema))) if metadata.output_schema else None,
        output_model=metadata.output_model,
        wrap_output=metadata.wrap_output,
        parameters=full,
    )
    return sdk_tool


def or_error(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a result that may be an error object instead.

    Clients built on the first TypeScript SDK check structured content against this schema also when `isError` is set, and
    show their own complaint instead of our `fix` where it does not fit.
    """
    required = schema.get("required")
    if not required:
        return schema
    kept = {key: part for key, part in schema.items() if key != "required"}
    return kept | {"anyOf": [{"required": required}, {"required": ["code", "message", "fix"]}]}


def name_cells(schema: Any) -> Any:
    """Return the schema with the cells of tables, `items: {}`, written as the scalars they are."""
    if isinstance(schema, dict):
        return {
            key: {"anyOf": [{"type": kind} for kind in CELL_TYPES]}
            if key == "items" and part == {}
            else name_cells(part)
            for key, part in schema.items()
        }
    return [name_cells(part) for part in schema] if isinstance(schema, list) else schema


def lean(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what the model need not read left out; the full one still judges every call.

    `anyOf [X, null], default null` of an optional argument becomes plain X: leaving it out is null. The default of an
    argument that is an object repeats the defaults of its fields and goes, as do lengths and patterns of texts, examples, and
    the whole schema of an argument that is told in words.
    """
    shown = copy.deepcopy(schema)
    definitions = shown.pop("$defs", {})
    for definition in definitions.values():
        definition.pop("description", None)
    for parent in (shown, *definitions.values()):
        for name, part in parent.get("properties", {}).items():
            parent["properties"][name] = _lean_argument(part)
    used = _used(shown, definitions)
    return ({"$defs": used} if used else {}) | shown


def _used(schema: object, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions that a schema refers to, and those that these refer to."""
    text = json.dumps(schema)
    found = {name: part for name, part in definitions.items() if f'"#/$defs/{name}"' in text}
    if not found:
        return {}
    rest = {name: part for name, part in definitions.items() if name not in found}
    return found | _used(list(found.values()), rest)


def _lean_argument(part: dict[str, Any]) -> dict[str, Any]:
    if part.pop("told", None):
        kind = "object" if "$ref" in part or "allOf" in part else "string"
        part = {"type": kind} | {key: part[key] for key in ("description", "default") if key in part}
    if "items" in part:
        part["items"] = _lean_option(part["items"])
    part = _lean_option(part)
    if "default" in part and (part["default"] in (None, "", []) or isinstance(part["default"], dict)):
        optional = part["default"] is None
        part = {key: value for key, value in part.items() if key != "default"}
        if optional and "anyOf" in part:
            part["anyOf"] = [option for option in part["anyOf"] if option != {"type": "null"}]
    if "anyOf" not in part:
        return part
    options = [_lean_option(option) for option in part.pop("anyOf")]
    if len(options) == 1:
        return {**options[0], **part}
    return {"anyOf": options, **part}


# Checked all the same; a description says where an id comes from, which its pattern does not.
_UNTOLD = frozenset(("maxLength", "minLength", "pattern", "examples", "told"))


def _lean_option(option: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in option.items() if key not in _UNTOLD}
    if kept.get("additionalProperties") is True:
        del kept["additionalProperties"]
    return kept


def _telling_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def telling(**arguments: Any) -> Any:
        progress = next((value for value in arguments.values() if isinstance(value, PacedProgress)), None)
        try:
            async with progress or nullcontext():
                return await function(**arguments)
        except LabError as error:
            return error_result(error)

    return telling


@contextmanager
def _without_rich() -> Generator[None]:
    """Keep the SDK from importing rich for a log handler it would not install: the log is ours already."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType] - the documented way to say "not importable"
    try:
        yield
    finally:
        del sys.modules["rich"]


def build_server(
    tools: Sequence[ToolDef],
    *,
    version: str,
    lifespan: Callable[[MCPServer[Any]], AbstractAsyncContextManager[Any]],
    more_tools: Sequence[Tool] = (),
    most_characters: int | None = MAX_CHARACTERS,
    tasks: TasksExtension | None = None,
) -> LabServer:
    """Return a server that offers these tools under the result policy; `more_tools` come with the SDK's own shape.

    Answers longer than `most_characters` are shortened; None lifts the cap, for readers that are no models.
    """
    sdk_tools = [*(to_sdk_tool(tool) for tool in tools), *more_tools]
    policy = ResultPolicy({tool.name: tool for tool in sdk_tools}, most_characters)
    hour = CacheHint(ttl_ms=3_600_000, scope="public")
    with _without_rich():
        server = LabServer(
            "bybit-strategy-tester",
            title="Bybit Strategy Tester",
            description="Honest strategy research on Bybit markets",
            instructions=INSTRUCTIONS,
            version=version,
            tools=sdk_tools,
            lifespan=lifespan,
            extensions=[policy] if tasks is None else [policy, tasks],
            cache_hints={
                "server/discover": hour,
                "tools/list": hour,
                "prompts/list": hour,
                "resources/templates/list": hour,
                "resources/list": CacheHint(ttl_ms=60_000, scope="private"),
            },
            log_level="WARNING",
        )
    if tasks is not None:
        server.watch_tasks(tasks)
    return server


def create_server(
    settings: Settings,
    more_tools: Sequence[Tool] = (),
    most_characters: int | None = MAX_CHARACTERS,
    *,
    more_task_tools: Sequence[str] = (),
    more_tasks: Sequence[TaskSource] = (),
    lab: Lab | None = None,
    only: Collection[str] = (),
) -> LabServer:
    """Return the server these settings describe; nothing heavy is imported and nothing is opened yet.

    With `lab` the tools work in that one, which stays open when the server ends. A caller who knows which tools it will
    call names them as `only`: the others are not mounted, which is most of the work. Where the settings withhold one of
    them, all others are there to be named in the refusal.
    """
    selection = Selection(settings.toolsets, settings.tools, settings.exclude_tools, settings.read_only)
    keeper = LabKeeper(settings, serve_lab(settings), lab)
    tools = select(selection)
    if only and {tool.name for tool in tools}.issuperset(only):
        tools = [tool for tool in tools if tool.name in only]
    task_tools = [*(tool.name for tool in tools if tool.task), *more_task_tools]
    server = build_server(
        tools,
        version=version("bybit-strategy-tester"),
        lifespan=lab_lifespan(keeper),
        more_tools=more_tools,
        most_characters=most_characters,
        tasks=TasksExtension(task_tools, [*more_tasks, JobTasks(keeper)]) if task_tools else None,
    )
    server.keeper = keeper
    add_prompts(server)
    add_resources(server, keeper)
    add_completions(server, keeper)
    return server


def serve_lab(settings: Settings) -> Callable[[Lab], LabServer]:
    """Return what makes a server over a lab that is open already: a pipeline's way to the tools, unshortened."""
    return lambda lab: create_server(settings, most_characters=None, lab=lab)
