"""Fixture tools that answer at once: every kind of content, an error, progress, log lines, change notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

# One transparent pixel as PNG, and a WAV header with one silent sample.
PIXEL_PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
SILENT_WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="


def pixel() -> ImageContent:
    """Return the smallest image."""
    return ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png")


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """Return a text resource inside a message."""
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, text=text, mime_type=mime_type))


def text(value: str) -> TextContent:
    """Return a text block."""
    return TextContent(type="text", text=value)


def answer(*blocks: ContentBlock) -> CallToolResult:
    """Return these blocks as a tool's answer."""
    return CallToolResult(content=list(blocks))


async def test_simple_text() -> CallToolResult:
    """Answer with one text."""
    return answer(text("A plain text, nothing else."))


async def test_image_content() -> CallToolResult:
    """Answer with one image."""
    return answer(pixel())


async def test_audio_content() -> CallToolResult:
    """Answer with one sound."""
    return answer(AudioContent(type="audio", data=SILENT_WAV, mime_type="audio/wav"))


async def test_embedded_resource() -> CallToolResult:
    """Answer with a resource inside the message."""
    return answer(embedded("test://embedded-resource", "A resource that travels inside the answer."))


async def test_multiple_content_types() -> CallToolResult:
    """Answer with text, image and resource."""
    return answer(
        text("Three kinds of content:"), pixel(), embedded("test://mixed", '{"kind":"mixed"}', "application/json")
    )


async def test_error_handling() -> CallToolResult:
    """Fail in a way nobody anticipated."""
    raise RuntimeError("raised on purpose")


async def test_tool_with_progress(context: Context) -> CallToolResult:
    """Report progress three times."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100, f"{done} of 100")
        await asyncio.sleep(0.05)
    return answer(text("Progress reported."))


async def _log(context: Context, *lines: str) -> None:
    for line in lines:
        # The suite still tests the log channel, which the specification has deprecated.
        await context.session.send_log_message(  # pyright: ignore[reportDeprecated]
            level="info", data=line, related_request_id=context.request_id
        )
        await asyncio.sleep(0.05)


async def test_tool_with_logging(context: Context) -> CallToolResult:
    """Send log lines while working."""
    await _log(context, "work begins", "work goes on", "work is done")
    return answer(text("Three log lines sent."))


async def test_logging_tool(context: Context) -> CallToolResult:
    """Send one log line, which only callers that asked for log lines receive."""
    await _log(context, "one line")
    return answer(text("One log line sent."))


async def test_trigger_tool_change(context: Context) -> CallToolResult:
    """Announce that the tool list changed."""
    await context.notify_tools_changed()
    return answer(text("Announced."))


async def test_trigger_prompt_change(context: Context) -> CallToolResult:
    """Announce that the prompt list changed."""
    await context.notify_prompts_changed()
    return answer(text("Announced."))


_FUNCTIONS: Final[tuple[Callable[..., Any], ...]] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_tool_with_progress,
    test_tool_with_logging,
    test_logging_tool,
    test_trigger_tool_change,
    test_trigger_prompt_change,
)
PLAIN_TOOLS: Final = [Tool.from_function(function, structured_output=False) for function in _FUNCTIONS]
