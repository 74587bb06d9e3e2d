"""Runs the official conformance suite and the MCP Inspector against this server; prints a table, exits 1 on any miss.

    python tests/conformance/run.py [--cache FOLDER]

Needs npm. What it installs goes into the user's cache folder, never into the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from platformdirs import user_cache_path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("node@24", "@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/inspector@2.12.0")
REQUIRED = {"2026-07-28": 37, "2025-11-25": 30}
TASK_SCENARIOS = {
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-status-notifications",
    "tasks-wire-fields",
}
# Its harness waits for a rewrite; tests/server/test_tasks.py checks the notifications.
SKIPPED_BY_THE_SUITE = {"tasks-status-notifications"}
ERAS = ("legacy", "modern")
MARKS = {True: "ok  ", False: "FAIL", None: "note"}
START_SECONDS = 300
SUITE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `ok` is None for what is reported and not required."""

    check: str
    outcome: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """The installed Node programs."""

    folder: Path

    @property
    def binary(self) -> Path:
        return self.folder / "node_modules" / "node" / "bin" / ("node.exe" if os.name == "nt" else "node")

    def script(self, package: str, name: str) -> Path:
        """Return the script behind a command of a package, so that no shell wrapper is needed."""
        home = self.folder / "node_modules" / "@modelcontextprotocol" / package
        return home / json.loads((home / "package.json").read_text(encoding="utf-8"))["bin"][name]

    def run(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **child_environment(cwd),
            "PATH": f"{self.binary.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        return subprocess.run(
            [self.binary, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=SUITE_SECONDS,
            check=False,
        )


def child_environment(home: Path) -> dict[str, str]:
    """Return an environment in which the server uses a folder of its own and generated data."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BST_")}
    return {**kept, "BST_HOME": str(home / "home"), "BST_FEED": "simulated", "PYTHONPATH": str(ROOT)}


def install(cache: Path) -> Node:
    """Install the pinned packages once; a failure ends the run."""
    node = Node(cache)
    stamp = cache / "installed.txt"
    wanted = "\n".join(PACKAGES)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and node.binary.is_file():
        return node
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is needed to install the conformance suite and the Inspector; it was not found")
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        npm,
        "install",
        "--no-package-lock",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=5",
        "--prefix",
        str(cache),
        *PACKAGES,
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode or not node.binary.is_file():
        raise SystemExit(f"npm install failed:\n{done.stdout}\n{done.stderr}")
    stamp.write_text(wanted, encoding="utf-8")
    return node


@contextmanager
def conformance_server(work: Path) -> Iterator[str]:
    """Serve the conformance profile on a free port; yield its address."""
    log = (work / "server.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "server.conformance", "--port", "0"],
        cwd=work,
        env=child_environment(work),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    deadline = threading.Timer(START_SECONDS, process.kill)
    deadline.start()
    try:
        address = first_address(process)
        deadline.cancel()
        threading.Thread(target=copy_lines, args=(process.stderr, log), daemon=True).start()
        yield address
    finally:
        deadline.cancel()
        process.kill()
        process.wait()


def first_address(process: subprocess.Popen[str]) -> str:
    """Return the address the server prints; its output says why when there is none."""
    seen: list[str] = []
    for line in process.stderr or ():
        seen.append(line)
        if found := re.search(r"http://\S+", line):
            return found.group()
    raise SystemExit("the conformance server did not start:\n" + "".join(seen))


def copy_lines(source: Iterator[str], log: TextIO) -> None:
    """Keep the server's output readable, and its pipe empty."""
    with log:
        log.writelines(source)


def suite_rows(node: Node, address: str, revision: str, work: Path) -> list[Row]:
    """Run what a revision requires; scenarios outside the requirement are named, not counted."""
    script = node.script("conformance", "conformance")
    output = work / f"out-{revision}"
    done = node.run(script, "server", "--url", address, "--requirements", revision, "--output-dir", output, cwd=work)
    listed = node.run(script, "list", "--requirements", revision, cwd=work)
    lines = done.stdout[done.stdout.find("=== SUMMARY ===") :].splitlines()
    scores = dict(found.groups()[::-1] for line in lines if (found := re.match(r"([✓✗]) ([\w-]+): \d+ passed", line)))
    outside = set(re.findall(r"[✓✗] ([\w-]+) \((?:extension|pending|added-after-release)\)", done.stdout))
    required = {name: mark for name, mark in scores.items() if name not in outside}
    passed = [name for name, mark in required.items() if mark == "✓"]
    expected = REQUIRED[revision]
    ok = len(passed) == len(required) == expected and done.returncode == 0 and listed.returncode == 0
    rows = [Row(f"conformance {revision}", f"{len(passed)} of {expected} required", ok)]
    if len(required) != expected:
        rows.append(
            Row(
                f"conformance {revision}",
                f"{len(required)} scenarios ran; {done.stdout[-500:]}{done.stderr[-500:]}",
                False,
            )
        )
    rows += [Row(f"  {name}", "failed, see " + str(output), False) for name in sorted(set(required) - set(passed))]
    for name in sorted(outside - TASK_SCENARIOS):
        rows.append(
            Row(f"  {name}", ("passes" if scores.get(name) == "✓" else "does not pass") + ", not required", None)
        )
    return rows


def task_rows(node: Node, address: str, work: Path) -> list[Row]:
    """Run the scenarios of the Tasks extension; the suite requires none of them, we require all."""
    script = node.script("conformance", "conformance")
    listed = node.run(script, "list", cwd=work)
    known = set(re.findall(r"- (tasks-[\w-]+) \[extension\]", listed.stdout))
    rows = [task_row(node, address, name, work) for name in sorted(TASK_SCENARIOS)]
    if known != TASK_SCENARIOS:
        rows.append(Row("tasks extension", f"the suite lists {sorted(known)}", False))
    return rows


def task_row(node: Node, address: str, name: str, work: Path) -> Row:
    """Run one scenario; one that checks nothing counts only where the suite says that it cannot check yet."""
    output = work / "out-tasks"
    script = node.script("conformance", "conformance")
    done = node.run(script, "server", "--url", address, "--scenario", name, "--output-dir", output, cwd=work)
    found = re.search(r"Passed: (\d+)/(\d+), (\d+) failed, (\d+) warnings", done.stdout)
    passed, checks, failed, warned = map(int, found.groups()) if found else (0, 0, 1, 0)
    if name in SKIPPED_BY_THE_SUITE and checks == 0:
        return Row(f"  {name}", "skipped by the suite itself", None if done.returncode == 0 else False)
    ok = done.returncode == 0 and passed == checks > 0 and not failed and not warned
    return Row(f"  {name}", f"{passed} of {checks} checks" + ("" if ok else f", see {output}"), ok)


def inspect(node: Node, era: str, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the Inspector's command line against the server that users start; it hands on none of our environment."""
    script = node.script("inspector", "mcp-inspector")
    command = [sys.executable, "-m", "server", "serve", "--feed", "simulated", "-e", f"BST_HOME={work / 'home'}"]
    return node.run(script, "--cli", *command, *options, "--protocol-era", era, cwd=work)


def inspector_row(node: Node, era: str, method: str, work: Path, *more: str) -> Row:
    """Run one Inspector call against the server that users start, over stdio; any finding fails."""
    options = ["--method", method, *more, "--format", "json"]
    if method == "tools/list":
        options.append("--strict")  # the schema lint; the Inspector takes it with this method only
    done = inspect(node, era, work, *options)
    findings = [line for line in done.stderr.splitlines() if line.startswith(("Warning:", "Error:"))]
    ok = done.returncode == 0 and not findings
    said = "clean" if ok else f"exit {done.returncode}; {'; '.join(findings) or done.stderr[-300:]}"
    return Row(f"inspector {era} {' '.join((method, *more))}", said, ok)


def inspector_rows(node: Node, work: Path) -> list[Row]:
    """Ask the real server for everything it lists, in both eras, and call one tool."""
    methods = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
    rows = [inspector_row(node, era, method, work) for era in ERAS for method in methods]
    rows += [inspector_row(node, era, "tools/call", work, "--tool-name", "list_strategies") for era in ERAS]
    return rows


def inspector_task_row(node: Node, era: str, state: str, work: Path) -> Row:
    """Start a job through the Inspector: of this revision it declares tasks and waits for the end, before it does not."""
    arguments = {
        "symbol": "BTCUSDT",
        "interval": "60",
        "start": "2024-01-01",
        "end": "2024-01-03",
        "recheck_gaps": True,
    }
    call = ("--method", "tools/call", "--tool-name", "start_backfill", "--tool-args-json", json.dumps(arguments))
    done = inspect(node, era, work, *call, "--format", "json")
    try:
        told = json.loads(done.stdout)["result"]["structuredContent"]
    except (ValueError, KeyError):
        return Row(f"inspector {era} start_backfill", f"exit {done.returncode}; {done.stderr[-300:]}", False)
    return Row(f"inspector {era} start_backfill", f"job {told['state']}", told["state"] == state)


def main() -> int:
    """Install, run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=user_cache_path("bybit-strategy-tester", appauthor=False) / "node"
    )
    node = install(parser.parse_args().cache.absolute())
    work = Path(tempfile.mkdtemp(prefix="bst-conformance-"))
    with conformance_server(work) as address:
        rows = [row for revision in REQUIRED for row in suite_rows(node, address, revision, work)]
        rows += task_rows(node, address, work)
    rows += inspector_rows(node, work)
    rows += [inspector_task_row(node, era, state, work) for era, state in (("legacy", "queued"), ("modern", "done"))]
    for row in rows:
        sys.stdout.write(f"{MARKS[row.ok]} {row.check:<64} {row.outcome}\n")
    failed = [row for row in rows if row.ok is False]
    if failed:
        sys.stdout.write(f"{len(failed)} failed; logs in {work}\n")
        return 1
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
