"""From text to a checked syntax tree: a whitelist over Python's own parser, bounded before it runs."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from engine.core.expressions.limits import MAX_BRACKETS, MAX_CHARACTERS, MAX_DEPTH, MAX_PREFIXES, MAX_TOKENS
from engine.errors import BadExpression

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<text>"[A-Za-z0-9]*"|'[A-Za-z0-9]*')
    |(?P<operator>\*\*|<=|>=|==|!=|[-+*/%<>(),\[\]=])""",
    re.VERBOSE | re.ASCII,
)
# `1or` and `007` make Python warn, b"x" and "a" "b" are texts of other kinds.
_NEVER_TOUCHING = frozenset(
    (("number", "name"), ("number", "number"), ("name", "text"), ("text", "text"), ("text", "name"))
)
_LOGIC = ("and", "or", "not")
_FORBIDDEN_WORDS = frozenset(keyword.kwlist) - frozenset(_LOGIC)
_CLOSING = {")": "(", "]": "["}

_ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.Name, ast.Constant,
    ast.Subscript, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow, ast.UAdd, ast.USub, ast.Not,
    ast.And, ast.Or, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq,
)  # fmt: skip
_GRAMMAR = "numbers, + - * / % **, comparisons, and, or, not, functions, series, parameters, definitions, history such as close[1]"
_HINTS = {
    "&": "write `and`", "|": "write `or`", "!": "write `not`", "^": "write ** for powers", "?": "write where(condition, a, b)",
    "#": "comments are not part of an expression", ":": "slices and assignments do not exist; history is close[1]",
    ".": "there are no attributes: write macd_signal(close) and the like", ";": "one expression only",
    "{": "there are no sets or dictionaries", "\\": "write the expression without escapes",
    "−": "write the ASCII minus -", "×": "write *", "÷": "write /", "≥": "write >=", "≤": "write <=", "≠": "write !=",
}  # fmt: skip
_WORD_HINTS = {
    "if": "write where(condition, a, b)", "True": "write a condition such as close > 0", "False": "write a condition such as close < 0",
    "is": "write == to compare", "in": "write comparisons joined by or", "lambda": "functions cannot be defined",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Syntax:
    """A checked expression: its text, its tree, and the names it uses other than functions."""

    text: str
    tree: ast.expr
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@lru_cache(maxsize=1_024)
def parse(text: str) -> Syntax:
    """Return the syntax tree of an expression, or raise BadExpression with the character where it went wrong."""
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(
            f"the expression has {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed",
            fix="split it into definitions",
            position=MAX_CHARACTERS,
        )
    _check_tokens(list(_tokens(text)), text)
    tree = _parse_python(re.sub(r"\s", " ", text))
    return Syntax(text, tree.body, _check_tree(tree))


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    previous = ""
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (previous, match.lastgroup) in _NEVER_TOUCHING:
            raise _bad_character(text, position)
        kind = match.lastgroup or ""
        if kind == "name" and match.group() in _FORBIDDEN_WORDS:
            raise BadExpression(
                f"the word {match.group()!r} is not part of the language",
                fix=_WORD_HINTS.get(match.group(), f"allowed are {_GRAMMAR}"),
                position=position,
            )
        if kind != "space":
            yield _Token(kind, match.group(), position)
        previous = kind
        position = match.end()


def _bad_character(text: str, position: int) -> BadExpression:
    found = text[position]
    return BadExpression(
        f"{found!r} is not allowed here", fix=_HINTS.get(found, f"allowed are {_GRAMMAR}"), position=position
    )


def _check_tokens(tokens: list[_Token], text: str) -> None:
    if not tokens:
        raise BadExpression(
            "the expression is empty", fix="write one, such as crossover(ema(close, 20), ema(close, 50))", position=0
        )
    if len(tokens) > MAX_TOKENS:
        raise BadExpression(
            f"the expression has {len(tokens):,} words and signs, at most {MAX_TOKENS} are allowed",
            fix="split it into definitions",
            position=tokens[MAX_TOKENS].position,
        )
    _check_brackets(tokens, text)
    _check_prefixes(tokens)


def _check_brackets(tokens: list[_Token], text: str) -> None:
    open_brackets: list[_Token] = []
    for token in tokens:
        if token.kind != "operator":
            continue
        if token.text == "=" and not open_brackets:
            raise BadExpression("'=' assigns nothing here", fix="write == to compare", position=token.position)
        if token.text in "([":
            open_brackets.append(token)
            if len(open_brackets) > MAX_BRACKETS:
                raise _too_deep(token.position)
        elif token.text in _CLOSING and (not open_brackets or open_brackets.pop().text != _CLOSING[token.text]):
            raise BadExpression(f"{token.text!r} closes nothing", fix="balance the brackets", position=token.position)
    if open_brackets:
        raise BadExpression(f"{open_brackets[-1].text!r} is not closed", fix="balance the brackets", position=len(text))


def _check_prefixes(tokens: list[_Token]) -> None:
    run = 0
    for token in tokens:
        run = run + 1 if token.text in ("+", "-", "not") else 0
        if run > MAX_PREFIXES:
            raise _too_deep(token.position)


def _parse_python(text: str) -> ast.Expression:
    # Leading blanks would be an indentation error; one bracket around the text moves positions by one.
    try:
        return ast.parse(f"({text}\n)", mode="eval")
    except SyntaxError as exc:
        position = max(0, min(len(text), (exc.offset or 2) - 2)) if exc.lineno == 1 else len(text)
        raise BadExpression(
            f"this is not an expression: {_syntax_message(text, position)}",
            fix=f"allowed are {_GRAMMAR}",
            position=position,
        ) from exc
    except (RecursionError, MemoryError, ValueError, OverflowError) as exc:
        raise _too_deep(0) from exc


def _syntax_message(text: str, position: int) -> str:
    rest = text[position : position + 20].strip()
    return f"unexpected {rest!r}" if rest else "it ends too early"


def _check_tree(tree: ast.Expression) -> frozenset[str]:
    names: set[str] = set()
    stack: list[tuple[ast.AST, int]] = [(tree.body, 1)]
    while stack:
        node, depth = stack.pop()
        if not isinstance(node, _ALLOWED):
            raise BadExpression(
                f"{_kind_name(node)} is not part of the language",
                fix=f"allowed are {_GRAMMAR}",
                position=position_of(node),
            )
        if depth > MAX_DEPTH:
            raise _too_deep(position_of(node))
        if isinstance(node, ast.Name):
            names.add(node.id)
        if isinstance(node, ast.Call):
            stack.extend((child, depth + 1) for child in (*node.args, *node.keywords))
            _check_callee(node)
        else:
            stack.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return frozenset(names)


def _check_callee(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name):
        raise BadExpression(
            "only a function's name may stand before a bracket", fix="write ema(close, 20)", position=position_of(node)
        )
    for word in node.keywords:
        if word.arg is None:
            raise BadExpression("** cannot unpack arguments", fix="write the arguments out", position=position_of(word))


def position_of(node: ast.AST) -> int:
    """Return the character, from 0, where a node of a parsed expression starts."""
    return max(0, int(getattr(node, "col_offset", 1)) - 1)


def _kind_name(node: ast.AST) -> str:
    names: dict[type[ast.AST], str] = {
        ast.Tuple: "a comma outside a call",
        ast.List: "a list",
        ast.FloorDiv: "// (write floor(a / b))",
        ast.Starred: "*",
    }
    return names.get(type(node), type(node).__name__.lower())


def _too_deep(position: int) -> BadExpression:
    return BadExpression(
        f"the expression nests too deeply (at most {MAX_BRACKETS} brackets, {MAX_DEPTH} levels)",
        fix="split it into definitions",
        position=position,
    )
