"""Runs pipelines as jobs: step by step, every end of a step kept, so that a later run goes on after the last finished one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ValidationError

from agents.answers import schema_of
from agents.pipelines import PIPELINES, Pipeline
from agents.pipelines.step import AgentStep, Past, StepQuestion, ToolStep
from agents.prompting import prompt_text, prompt_version
from agents.providers import HOST
from agents.questions import AgentProgress, AskRequest, RoutedAnswer
from engine.agent_records import PipelineStep
from engine.errors import BadRequest, LabError, NotFound

if TYPE_CHECKING:
    from agents.memory import AgentMemory
    from agents.router import Router
    from agents.toolbox import ToolboxSource
    from engine.ports import Clock

JOB_KIND = "pipeline"
SERVER = "server"
_REQUEST, _REQUEST_NUMBER = "request", 0
# Purposes of pipeline steps begin with this, so that an answer handed in finds its pipeline.
_PURPOSE = "pipeline:"

Document = Mapping[str, Any]


class Reporting(Protocol):
    """Whoever is told how far a pipeline is."""

    def report(self, progress: Document) -> None:
        """Keep it."""
        ...


@dataclass(slots=True)
class _Run:
    """One run of a pipeline: what is known, and what has been shown for it."""

    pipeline: Pipeline
    id: str
    past: Past
    rows: dict[int, PipelineStep]
    shown: list[dict[str, Any]]
    context: Reporting


class PipelineRunner:
    """Runs pipelines; the body of the jobs of kind `pipeline`.

    Parameters
    ----------
    router : Router
        Answers the steps that agents answer.
    memory : AgentMemory
        Keeps the steps.
    clock : Clock
        Time.
    toolbox : ToolboxSource
        The tools for the steps that compute.
    """

    def __init__(self, router: Router, memory: AgentMemory, clock: Clock, toolbox: ToolboxSource) -> None:
        self._router = router
        self._memory = memory
        self._clock = clock
        self._toolbox = toolbox

    def request(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of the job for a pipeline, checked; the same input always makes the same request.

        Raises
        ------
        NotFound
            When there is no such pipeline.
        BadRequest
            When the input is not what it takes.
        """
        read = _read(_named(name), given)
        document = read.model_dump(mode="json", exclude_none=True)
        digest = hashlib.sha256(json.dumps([name, document], sort_keys=True).encode()).hexdigest()
        return {"pipeline_id": f"pipe_{digest[:12]}", "name": name, "input": document}

    async def request_of_submission(self, submission_id: str) -> dict[str, Any] | None:
        """Return the request of the pipeline that waits for this answer; None when it belongs to no pipeline."""
        submission = await self._memory.submission(submission_id)
        if not submission.purpose.startswith(_PURPOSE):
            return None
        pipeline_id = submission.purpose.removeprefix(_PURPOSE).partition("/")[0]
        steps = await self._memory.pipeline_steps(pipeline_id)
        return next((dict(step.output) for step in steps if step.number == _REQUEST_NUMBER), None)

    async def steps_of(self, pipeline_id: str) -> list[dict[str, Any]]:
        """Return the finished and waiting steps of a pipeline as its answer shows them."""
        rows = await self._memory.pipeline_steps(pipeline_id)
        return [_shown(row) for row in rows if row.number != _REQUEST_NUMBER and row.state != "failed"]

    async def is_still_valid(self, request: Document, result: Document) -> bool:
        """Return whether a look finds nothing to do: all is finished, or it waits for the calling model and nobody else.

        A failed pipeline goes on when it is asked for again.
        """
        del request
        waiting = result.get("delegated")
        if result.get("status") != "delegated" or waiting is None:
            return result.get("status") == "finished"
        submission = await self._memory.submission(str(waiting["submission_id"]))
        return submission.state == "open" and not self._router.can_answer

    async def run(self, request: Document, context: Reporting) -> Document:
        """Run a pipeline from its last finished step to its end, to a step for the calling model, or to a failure."""
        pipeline = _named(str(request["name"]))
        pipeline_id = str(request["pipeline_id"])
        rows = {row.number: row for row in await self._memory.pipeline_steps(pipeline_id)}
        run = _Run(pipeline, pipeline_id, Past(_read(pipeline, request["input"])), rows, [], context)
        await self._keep(run, _REQUEST_NUMBER, _REQUEST, "", "finished", dict(request))
        for number, step in enumerate(pipeline.steps, start=1):
            self._tell(run, number, step.name, "")
            try:
                stopped = await self._step(run, number, step)
            except LabError as error:
                told = {"code": error.code, "message": error.message, "fix": error.fix, "step": step.name}
                await self._keep(run, number, step.name, _hash(run.past), "failed", told)
                return _outcome(run, "failed", error=told)
            if stopped is not None:
                run.context.report(
                    {
                        "message": f"step {number} of {len(pipeline.steps)}: {step.name}, waits for your answer (submit_analysis)",
                        "pages_done": number - 1,
                        "pages_total": len(pipeline.steps),
                        "is_waiting": True,
                    }
                )
                return _outcome(run, "delegated", delegated=stopped)
        return _outcome(run, "finished")

    async def _step(self, run: _Run, number: int, step: AgentStep | ToolStep) -> dict[str, Any] | None:
        """Take one step; return what the calling model has to answer when nobody else did."""
        if isinstance(step, ToolStep):
            if not self._is_known(run, number, step.name, step.form):
                async with self._toolbox.open() as tools:
                    output = await step.act(run.past, tools)
                await self._finish(run, number, step.name, output, SERVER)
            return None
        question = step.question(run.past)
        if self._is_known(run, number, step.name, question.form):
            return None
        if await self._is_handed_in(run, number, step, question):
            return None
        return await self._asked(run, number, step, question)

    def _is_known(self, run: _Run, number: int, name: str, form: type[BaseModel]) -> bool:
        """Take over a step that finished in an earlier run on the same past."""
        row = run.rows.get(number)
        if row is None or row.state != "finished" or row.input_hash != _hash(run.past):
            return False
        try:
            output = form.model_validate(row.output)
        except ValidationError:
            return False
        run.past = run.past.with_output(name, output)
        run.shown.append(_shown(row))
        return True

    async def _is_handed_in(self, run: _Run, number: int, step: AgentStep, question: StepQuestion) -> bool:
        """Take over the calling model's answer to a step that was delegated on the same past."""
        row = run.rows.get(number)
        if row is None or row.state != "delegated" or row.input_hash != _hash(run.past):
            return False
        submission = await self._memory.submission(str(row.output["submission_id"]))
        if submission.state != "answered":
            return False
        await self._finish(
            run, number, step.name, question.form.model_validate(submission.answer), HOST, attempts=row.attempts
        )
        return True

    async def _asked(self, run: _Run, number: int, step: AgentStep, question: StepQuestion) -> dict[str, Any] | None:
        waiting = run.rows.get(number)
        is_open = waiting is not None and waiting.state == "delegated" and waiting.input_hash == _hash(run.past)
        if waiting is not None and is_open and not self._router.has_agents:
            run.shown.append(_shown(waiting))
            return dict(waiting.output)

        async def tell(progress: AgentProgress) -> None:
            self._tell(run, number, step.name, f"{progress.agent}: {progress.kind}", progress.tokens)

        prompt = prompt_text(step.prompt)
        if question.wish:
            prompt = f"{prompt}\n\nThe owner's wish: {question.wish}"
        answer = await self._router.ask(
            AskRequest(
                prompt=prompt,
                task=step.task,
                context=question.context,
                schema=question.form,
                brief=question.brief,
                prompt_version=prompt_version(step.prompt),
                purpose=f"{_PURPOSE}{run.id}/{step.name}",
                pipeline_id=run.id,
                step=step.name,
            ),
            tell,
        )
        if isinstance(answer.answer, BaseModel):
            await self._finish(
                run, number, step.name, answer.answer, answer.agent, answer=answer, attempts=len(answer.attempts)
            )
            return None
        delegated = {
            "step": step.name,
            "submission_id": answer.submission_id,
            "question": prompt,
            "brief": question.brief,
            "instructions": answer.instructions,
            "output_schema": schema_of(question.form),
            "notes": list(answer.notes),
        }
        row = await self._keep(
            run,
            number,
            step.name,
            _hash(run.past),
            "delegated",
            delegated,
            answer=answer,
            attempts=len(answer.attempts),
        )
        run.shown.append(_shown(row))
        return delegated

    async def _finish(
        self,
        run: _Run,
        number: int,
        name: str,
        output: BaseModel,
        agent: str,
        *,
        answer: RoutedAnswer | None = None,
        attempts: int = 0,
    ) -> None:
        row = await self._keep(
            run,
            number,
            name,
            _hash(run.past),
            "finished",
            output.model_dump(mode="json"),
            agent=agent,
            answer=answer,
            attempts=attempts,
        )
        run.past = run.past.with_output(name, output)
        run.shown.append(_shown(row))

    async def _keep(  # noqa: PLR0913  the fields of a row
        self,
        run: _Run,
        number: int,
        name: str,
        input_hash: str,
        state: Any,
        output: Any,
        *,
        agent: str = HOST,
        answer: RoutedAnswer | None = None,
        attempts: int = 0,
    ) -> PipelineStep:
        row = PipelineStep(
            pipeline_id=run.id,
            number=number,
            name=name,
            pipeline=run.pipeline.name,
            state=state,
            at_ms=self._clock.now_ms(),
            input_hash=input_hash,
            output=output,
            agent=agent,
            served_model=answer.served_model if answer else "",
            attempts=attempts,
            cost_usd=answer.cost_usd if answer else 0.0,
            tokens=answer.tokens if answer else 0,
        )
        before = run.rows.get(number)
        if before is not None and before.input_hash == input_hash and before.state != "finished":
            # What earlier attempts at this step cost is part of its price.
            row = replace(row, cost_usd=row.cost_usd + before.cost_usd, tokens=row.tokens + before.tokens)
        await self._memory.save_pipeline_step(row)
        run.rows[number] = row
        return row

    def _tell(self, run: _Run, number: int, step: str, what: str, tokens: int = 0) -> None:
        count = len(run.pipeline.steps)
        said = f"step {number} of {count}: {step}" + (f", {what}" if what else "")
        if tokens:
            said += f", {tokens} tokens"
        run.context.report({"message": said, "pages_done": number - 1, "pages_total": count})


def _named(name: str) -> Pipeline:
    if name not in PIPELINES:
        raise NotFound(f"there is no pipeline {name!r}", fix=f"name is one of {', '.join(PIPELINES)}")
    return PIPELINES[name]


def _hash(past: Past) -> str:
    """Return what a step rests on: the request and everything found before it."""
    outputs = {name: each.model_dump(mode="json") for name, each in past.outputs.items()}
    text = json.dumps([past.given.model_dump(mode="json"), outputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(row: PipelineStep) -> dict[str, Any]:
    return {
        "number": row.number,
        "name": row.name,
        "state": row.state,
        "agent": row.agent,
        "served_model": row.served_model,
        "attempts": row.attempts,
        "cost_usd": row.cost_usd,
        "tokens": row.tokens,
        "output": row.output if row.state == "finished" else None,
    }


def _outcome(
    run: _Run, status: str, *, delegated: dict[str, Any] | None = None, error: dict[str, Any] | None = None
) -> dict[str, Any]:
    steps: Sequence[dict[str, Any]] = run.shown
    return {
        "pipeline_id": run.id,
        "name": run.pipeline.name,
        "status": status,
        "steps": list(steps),
        "cost_usd": sum(step["cost_usd"] for step in steps),
        "tokens": sum(step["tokens"] for step in steps),
        "delegated": delegated,
        "error": error,
    }


def _read(pipeline: Pipeline, given: Document) -> BaseModel:
    """Return the input of a pipeline, or raise with everything that is wrong with it."""
    try:
        return pipeline.given.model_validate(dict(given))
    except ValidationError as error:
        takes = ", ".join(
            f"{field} ({'required' if about.is_required() else 'optional'})"
            for field, about in pipeline.given.model_fields.items()
        )
        raise BadRequest(f"input of {pipeline.name}: {_all(error)}", fix=f"input takes {takes}") from error


def _all(error: ValidationError) -> str:
    told = error.errors(include_url=False, include_input=False, include_context=False)
    return " | ".join(
        f"{'.'.join(map(str, each['loc'])) or 'input'}: {each['msg'].removeprefix('Value error, ')}" for each in told
    )
