"""Is an answer what was asked for, and does it say only what the facts hold? Problems come back as short sentences."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from agents.answers import CITED, LANGUAGE, PROPOSAL, schema_of
from agents.hygiene import strip_invisible
from agents.numbers import Facts, facts_from, invented_numbers, unfounded_numbers
from engine.core.strategy import parse_strategy
from engine.errors import BadRequest

_MOST_NAMED = 6
_LONGEST_PROBLEM = 160
_URL = re.compile(r"https?://[^\s<>\"'\])}]+", re.IGNORECASE)
_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_FENCED_PYTHON = re.compile(r"```(?:python|py)\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer may quote.

    Attributes
    ----------
    brief : any JSON value
        Facts computed by the engine; None when the question came without.
    texts : sequence of str
        The question and its context.
    urls : sequence of str
        Addresses that may be cited, besides those in brief and texts; None allows every address (the calling model did
        its own search, which nobody can check).
    snippets : sequence of str
        What search results say.
    """

    brief: Any = None
    texts: Sequence[str] = ()
    urls: Sequence[str] | None = ()
    snippets: Sequence[str] = field(default=())

    @property
    def facts(self) -> Facts:
        """Return every number that may be quoted."""
        return facts_from(self.brief, [*self.texts, *self.snippets])


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer after its checks: a value without problems, or problems without a value.

    Attributes
    ----------
    unchecked : tuple of str
        Figures that nothing could be held against, because there was no brief; worth asking again for an answer without.
    """

    value: BaseModel | str | None
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what a second answer should do better."""
        if not self.unchecked:
            return self.problems
        shown = ", ".join(self.unchecked[:_MOST_NAMED])
        return (
            *self.problems,
            f"there is no brief, so nothing supports {shown}; leave such figures out, or mark an example",
        )

    @property
    def note(self) -> str:
        """Return what a reader must know about the figures; empty when there is nothing."""
        if not self.unchecked:
            return ""
        return f"no figure of this answer was checked: there was no brief; unchecked: {', '.join(self.unchecked)}"


def judge(text: str, form: type[BaseModel] | None, evidence: Evidence) -> Judged:
    """Return the answer that a text holds, if it has the form asked for and passes every check."""
    text = strip_invisible(text).strip()
    if not text:
        return Judged(None, ("the answer is blank",))
    if form is None:
        problems = _text_problems([("", text)], evidence) + _python_problems(text)
        return Judged(None, tuple(problems)) if problems else Judged(text, unchecked=_unchecked([text], evidence))
    try:
        value = form.model_validate(json.loads(_unfenced(text)))
    except ValidationError as error:
        return Judged(None, tuple(_told(error)))
    except (ValueError, RecursionError):
        return Judged(None, ("the answer is not one JSON object",))
    problems, texts = _problems_and_texts(value, evidence)
    return Judged(None, tuple(problems)) if problems else Judged(value, unchecked=_unchecked(texts, evidence))


def _unchecked(texts: Sequence[str], evidence: Evidence) -> tuple[str, ...]:
    """Return the figures that read like data and stand in nothing that was asked, given or cited."""
    if evidence.brief is not None:
        return ()
    facts = evidence.facts
    return tuple(dict.fromkeys(figure for text in texts for figure in unfounded_numbers(text, facts)))


def _problems_and_texts(value: BaseModel, evidence: Evidence) -> tuple[list[str], list[str]]:
    """Return what is wrong with an answer of the right form (figures, addresses, code), and its texts."""
    schema = schema_of(type(value))
    texts: list[tuple[str, str]] = []
    problems: list[str] = []
    for path, marks, leaf in _marked(schema, schema, value.model_dump(mode="json"), ""):
        if language := marks.get(LANGUAGE):
            problems += [f"{path}: {problem}" for problem in _code_problems(str(language), leaf)]
        elif CITED in marks:
            problems += _url_problems(path, str(leaf), evidence)
        elif PROPOSAL not in marks:
            texts.append((path, str(leaf)))
        else:
            problems += [problem for url in _URL.findall(str(leaf)) for problem in _url_problems(path, url, evidence)]
    return problems + _text_problems(texts, evidence), [text for _, text in texts]


def _text_problems(texts: Sequence[tuple[str, str]], evidence: Evidence) -> list[str]:
    problems = [
        problem for path, text in texts for url in _URL.findall(text) for problem in _url_problems(path, url, evidence)
    ]
    if evidence.brief is None:
        # Nothing to hold a figure against: such figures are asked about once, then marked.
        return problems
    facts = evidence.facts
    for path, text in texts:
        if wrong := invented_numbers(text, facts):
            shown = ", ".join(wrong[:_MOST_NAMED])
            problems.append(
                f"{path or 'answer'}: not in the brief: {shown}; quote the brief's figures or leave them out"
            )
    return problems


def _url_problems(path: str, url: str, evidence: Evidence) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc:
        return [f"{path or 'answer'}: {url[:80]!r} is not a web address"]
    if evidence.urls is None:
        return []
    known = {_address(each) for each in evidence.urls}
    known |= {_address(each) for text in evidence.texts for each in _URL.findall(text)}
    known |= {_address(each) for each in _URL.findall(json.dumps(evidence.brief, default=str))}
    if _address(url) in known:
        return []
    return [f"{path or 'answer'}: {url[:80]} is not among the search results; cite only those"]


def _address(url: str) -> str:
    """Return what makes two addresses the same: host in lower case, path without its last slash, query."""
    try:
        parts = urlsplit(url.rstrip(".,;:!?"))
    except ValueError:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.netloc.lower().removeprefix('www.')}{parts.path.rstrip('/')}{query}"


def _code_problems(language: str, code: object) -> list[str]:
    if language == "python":
        return _parse_problem(str(code))
    try:
        parse_strategy(code)
    except BadRequest as error:
        return [f"the strategy is not valid: {error.message}. {error.fix}"[:_LONGEST_PROBLEM]]
    return []


def _python_problems(text: str) -> list[str]:
    return [problem for code in _FENCED_PYTHON.findall(text) for problem in _parse_problem(code)]


def _parse_problem(code: str) -> list[str]:
    if not code.strip():
        return ["the code is empty"]
    try:
        ast.parse(code)
    except SyntaxError as error:
        return [f"the code does not parse: {error.msg} in line {error.lineno}"]
    except (ValueError, RecursionError, MemoryError):
        return ["the code does not parse"]
    return []


def _unfenced(text: str) -> str:
    found = _FENCED.match(text)
    return found.group(1) if found else text


def _told(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_NAMED]:
        yield f"{'.'.join(map(str, each['loc'])) or 'answer'}: {each['msg']}"[:_LONGEST_PROBLEM]


def _marked(
    root: Mapping[str, Any], schema: Mapping[str, Any], value: Any, path: str
) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield every text of an answer with its path and the marks of its schema."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        schema = {**root["$defs"][reference.rsplit("/", 1)[-1]], **schema}
    options = cast("list[Mapping[str, Any]]", schema.get("anyOf") or [])
    if options:
        fitting = [option for option in options if option.get("type") != "null"]
        schema = {**schema, **(fitting[0] if fitting else {})}
        if "$ref" in schema and schema["$ref"] != reference:
            yield from _marked(root, schema, value, path)
            return
    if isinstance(value, dict):
        properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
        for key, each in cast("dict[str, Any]", value).items():
            yield from _marked(root, properties.get(key, {}), each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for position, each in enumerate(cast("list[Any]", value)):
            yield from _marked(root, schema.get("items", {}), each, f"{path}.{position}")
    elif isinstance(value, str) and "enum" not in schema and "const" not in schema:
        yield path, schema, value
    elif isinstance(value, int | float) and not isinstance(value, bool) and PROPOSAL not in schema:
        yield path, schema, repr(value)
