"""The tables of the database."""

# SQLModel and SQLAlchemy declare `__tablename__` and `metadata` in ways that contradict their own documentation.
# pyright: reportAssignmentType=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import ConfigDict
from sqlalchemy import BigInteger, Float, Index, Integer, LargeBinary, MetaData, String, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

if TYPE_CHECKING:
    from sqlalchemy import Table

# Named constraints can be changed by later migrations on every database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Row(SQLModel):
    """A row of any table of this database."""

    # Rows are not validated, so most validators would be built at every start for nobody.
    model_config = ConfigDict(defer_build=True)
    metadata: ClassVar[MetaData] = MetaData(naming_convention=_NAMES)


class MetaRow(Row, table=True):
    """A fact about the database itself."""

    __tablename__ = "meta"

    key: str = Field(primary_key=True, sa_type=String)
    value: str = Field(sa_type=Text)


class InstrumentRow(Row, table=True):
    """The rules of one symbol from `valid_from_ms` until the next row of the same symbol."""

    __tablename__ = "instruments"
    __table_args__ = (
        UniqueConstraint("feed", "category", "symbol", "valid_from_ms"),
        Index(None, "feed", "category", "is_current"),
    )

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    category: str
    symbol: str
    base_coin: str
    quote_coin: str
    status: str
    valid_from_ms: int = Field(sa_type=BigInteger)
    seen_ms: int = Field(sa_type=BigInteger)
    is_current: bool
    document: str = Field(sa_type=Text)


class SeriesRow(Row, table=True):
    """The name of a candle series (kind trade, mark, index, premium) or point series (funding and so on)."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("feed", "category", "symbol", "kind", "interval"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    category: str
    symbol: str
    kind: str
    interval: str
    # Launch of the instrument these candles belong to: a ticker may be used again after delisting.
    listed_ms: int | None = Field(default=None, sa_type=BigInteger)
    # No bar exists before this time; known after somebody looked.
    begins_ms: int | None = Field(default=None, sa_type=BigInteger)


class CoverageRow(Row, table=True):
    """A stretch of a series that one source answered for."""

    __tablename__ = "coverage"
    __table_args__ = (Index(None, "series_id", "start_ms"),)

    id: int | None = Field(default=None, primary_key=True)
    series_id: int = Field(foreign_key="series.id", ondelete="CASCADE")
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    source: str


class GapRow(Row, table=True):
    """Covered bars that do not exist at the source."""

    __tablename__ = "gaps"
    __table_args__ = (Index(None, "series_id", "start_ms"),)

    id: int | None = Field(default=None, primary_key=True)
    series_id: int = Field(foreign_key="series.id", ondelete="CASCADE")
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    first_seen_ms: int = Field(sa_type=BigInteger)
    last_checked_ms: int = Field(sa_type=BigInteger)


class RevisionRow(Row, table=True):
    """A closed candle that changed after it was stored; values are JSON lists, null where there was none."""

    __tablename__ = "revisions"
    __table_args__ = (Index(None, "series_id", "ts"),)

    id: int | None = Field(default=None, primary_key=True)
    series_id: int = Field(foreign_key="series.id", ondelete="CASCADE")
    ts: int = Field(sa_type=BigInteger)
    old_values: str = Field(sa_type=Text)
    new_values: str = Field(sa_type=Text)
    seen_ms: int = Field(sa_type=BigInteger)


class SegmentRow(Row, table=True):
    """The packed candles of one bucket of a series; the blob stands last so that the rest is read without it."""

    __tablename__ = "segments"

    series_id: int = Field(primary_key=True, foreign_key="series.id", ondelete="CASCADE")
    bucket: int = Field(primary_key=True, sa_type=Integer)
    rows: int
    first_ms: int = Field(sa_type=BigInteger)
    last_ms: int = Field(sa_type=BigInteger)
    crc32: int = Field(sa_type=BigInteger)
    codec: int
    data: bytes = Field(sa_type=LargeBinary)


class PointRow(Row, table=True):
    """One dated figure of a point series: a funding rate, an open interest, a pair of shares."""

    __tablename__ = "points"

    series_id: int = Field(primary_key=True, foreign_key="series.id", ondelete="CASCADE")
    at_ms: int = Field(primary_key=True, sa_type=BigInteger)
    value: float = Field(sa_type=Float)
    second_value: float | None = Field(default=None, sa_type=Float)


class JobRow(Row, table=True):
    """One durable piece of work and how far it got."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "request_hash"), Index(None, "state"))

    id: str = Field(primary_key=True)
    kind: str
    request_hash: str
    request: str = Field(sa_type=Text)
    state: str
    attempts: int
    created_ms: int = Field(sa_type=BigInteger)
    updated_ms: int = Field(sa_type=BigInteger)
    started_ms: int | None = Field(default=None, sa_type=BigInteger)
    finished_ms: int | None = Field(default=None, sa_type=BigInteger)
    cursor_ms: int | None = Field(default=None, sa_type=BigInteger)
    owner: str | None = None
    lease_until_ms: int = Field(default=0, sa_type=BigInteger)
    cancel_asked: bool = False
    progress: str | None = Field(default=None, sa_type=Text)
    result: str | None = Field(default=None, sa_type=Text)
    error: str | None = Field(default=None, sa_type=Text)
    # What it looked at, see job_scopes; none of jobs older than that.
    scopes: str | None = Field(default=None, sa_type=Text)


class LeaseRow(Row, table=True):
    """Who may do a named thing until when."""

    __tablename__ = "leases"

    name: str = Field(primary_key=True)
    owner: str
    until_ms: int = Field(sa_type=BigInteger)


class RunRow(Row, table=True):
    """One finished backtest."""

    __tablename__ = "runs"
    __table_args__ = (Index(None, "created_ms"), Index(None, "strategy"), Index(None, "symbol"))

    id: str = Field(primary_key=True)
    created_ms: int = Field(sa_type=BigInteger)
    name: str
    strategy: str
    category: str
    symbol: str
    interval: str
    source: str
    manifest: str = Field(sa_type=Text)
    result: str = Field(sa_type=Text)
    # What decides whether a seal withholds the run; of runs older than seals the manifest told it.
    feed: str | None = None
    end_ms: int | None = Field(default=None, sa_type=BigInteger)


class RunMetricRow(Row, table=True):
    """One figure of a run, for sorting."""

    __tablename__ = "run_metrics"

    run_id: str = Field(primary_key=True, foreign_key="runs.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    value: float | None = Field(default=None, sa_type=Float)


class RunColumnsRow(Row, table=True):
    """Packed columns of a run: its trades, its daily equity."""

    __tablename__ = "run_columns"

    run_id: str = Field(primary_key=True, foreign_key="runs.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    rows: int
    crc32: int = Field(sa_type=BigInteger)
    codec: int
    data: bytes = Field(sa_type=LargeBinary)


class StrategyRow(Row, table=True):
    """One version of a saved strategy document."""

    __tablename__ = "strategies"

    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    created_ms: int = Field(sa_type=BigInteger)
    sha256: str
    document: str = Field(sa_type=Text)


class BanRow(Row, table=True):
    """Until when an exchange host refuses this address."""

    __tablename__ = "bans"

    host: str = Field(primary_key=True)
    until_ms: int = Field(sa_type=BigInteger)


class CallerRow(Row, table=True):
    """A process that asks a host at the moment."""

    __tablename__ = "callers"

    host: str = Field(primary_key=True)
    owner: str = Field(primary_key=True)
    until_ms: int = Field(sa_type=BigInteger)


class StudyRow(Row, table=True):
    """A unit of research: a name and a market, and the end of the hash chain of its trials."""

    __tablename__ = "studies"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    feed: str
    category: str
    symbols: str = Field(sa_type=Text)
    sealed: bool
    created_ms: int = Field(sa_type=BigInteger)
    # The range first asked for.
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    already_seen: str = Field(sa_type=Text)
    trials: int = 0
    # Trials the witness knows of and this database does not.
    lost_trials: int = 0
    head: str
    rolled_back_ms: int | None = Field(default=None, sa_type=BigInteger)
    witness_lost_ms: int | None = Field(default=None, sa_type=BigInteger)


class TrialReturnsRow(Row, table=True):
    """What trials recorded together share, with their packed daily returns; the blobs stand last."""

    __tablename__ = "trial_returns"
    __table_args__ = (Index(None, "study_id"), Index(None, "job_id"), Index(None, "feed", "underlying"))

    id: int | None = Field(default=None, primary_key=True)
    study_id: str = Field(foreign_key="studies.id")
    feed: str
    underlying: str
    category: str
    symbol: str
    interval: str
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    bars: int
    data_sha256: str
    costs_sha256: str
    strategy: str
    origin: str
    job_id: str | None = None
    seed: int | None = Field(default=None, sa_type=BigInteger)
    at_ms: int = Field(sa_type=BigInteger)
    rows: int
    days: int
    crc32: int = Field(sa_type=BigInteger)
    codec: int
    marks: bytes = Field(sa_type=LargeBinary)
    data: bytes = Field(sa_type=LargeBinary)


class TrialRow(Row, table=True):
    """One strategy evaluated in a study; never changed, chained to the one before it."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("study_id", "key"),)

    study_id: str = Field(primary_key=True, foreign_key="studies.id")
    number: int = Field(primary_key=True)
    key: str
    batch_id: int = Field(foreign_key="trial_returns.id")
    position: int
    fingerprint: str
    params: str = Field(sa_type=Text)
    trades: float | None = Field(default=None, sa_type=Float)
    daily_sharpe: float | None = Field(default=None, sa_type=Float)
    skew: float | None = Field(default=None, sa_type=Float)
    kurtosis: float | None = Field(default=None, sa_type=Float)
    total_return: float | None = Field(default=None, sa_type=Float)
    max_drawdown: float | None = Field(default=None, sa_type=Float)
    fees_paid: float | None = Field(default=None, sa_type=Float)
    hash: str


class SealRow(Row, table=True):
    """The holdout of everything that follows one coin: bars that close after `from_ms` are withheld until it is opened."""

    __tablename__ = "seals"
    __table_args__ = (Index(None, "feed", "opened_ms"),)

    id: str = Field(primary_key=True)
    feed: str
    underlying: str
    from_ms: int = Field(sa_type=BigInteger)
    set_ms: int = Field(sa_type=BigInteger)
    study_id: str = Field(foreign_key="studies.id")
    opened_ms: int | None = Field(default=None, sa_type=BigInteger)


class SealHolderRow(Row, table=True):
    """A study whose holdout a seal is."""

    __tablename__ = "seal_holders"

    seal_id: str = Field(primary_key=True, foreign_key="seals.id")
    study_id: str = Field(primary_key=True, foreign_key="studies.id")


class OpeningRow(Row, table=True):
    """The act of opening a seal for one run, once for every study that held it."""

    __tablename__ = "openings"
    __table_args__ = (Index(None, "run_id"),)

    id: str = Field(primary_key=True)
    study_id: str = Field(primary_key=True, foreign_key="studies.id")
    seal_id: str = Field(foreign_key="seals.id")
    run_id: str
    reason: str = Field(sa_type=Text)
    at_ms: int = Field(sa_type=BigInteger)
    # The run that evaluated the holdout; none until it is stored.
    holdout_run_id: str | None = None
    # What came of it: a later seal on the same bars must not make a failure unreadable.
    figures: str | None = Field(default=None, sa_type=Text)


class LedgerEventRow(Row, table=True):
    """Something that happened to the ledger, chained to what happened before it."""

    __tablename__ = "ledger_events"

    id: int | None = Field(default=None, primary_key=True)
    at_ms: int = Field(sa_type=BigInteger)
    kind: str
    study_id: str | None = None
    document: str = Field(sa_type=Text)
    hash: str


class RunStudyRow(Row, table=True):
    """A study in which a run was evaluated."""

    __tablename__ = "run_studies"

    run_id: str = Field(primary_key=True)
    study_id: str = Field(primary_key=True, foreign_key="studies.id")
    at_ms: int = Field(sa_type=BigInteger)


class SearchBatchRow(Row, table=True):
    """All points of one batch of a search with their figures, so that it can go on after a crash."""

    __tablename__ = "search_batches"

    job_id: str = Field(primary_key=True)
    batch_no: int = Field(primary_key=True)
    study_id: str = Field(foreign_key="studies.id")
    symbol: str
    end_ms: int = Field(sa_type=BigInteger)
    rows: int
    crc32: int = Field(sa_type=BigInteger)
    codec: int
    data: bytes = Field(sa_type=LargeBinary)


class MarketSketchRow(Row, table=True):
    """Some closes of a market that something was evaluated on, by which its copies are known; the blob stands last."""

    __tablename__ = "market_sketches"
    __table_args__ = (Index(None, "feed", "underlying"),)

    feed: str = Field(primary_key=True)
    category: str = Field(primary_key=True)
    symbol: str = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    underlying: str
    first_ms: int = Field(sa_type=BigInteger)
    last_ms: int = Field(sa_type=BigInteger)
    rows: int
    at_ms: int = Field(sa_type=BigInteger)
    data: bytes = Field(sa_type=LargeBinary)


class ProbeRow(Row, table=True):
    """An expression that somebody looked at the outcome of; never changed, chained to the one before it."""

    __tablename__ = "probes"
    __table_args__ = (Index(None, "feed", "underlying"),)

    number: int = Field(primary_key=True)
    feed: str
    underlying: str
    category: str
    symbol: str
    interval: str
    expression: str = Field(sa_type=Text)
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    at_ms: int = Field(sa_type=BigInteger)
    hash: str


class AgentCallRow(Row, table=True):
    """One attempt at one agent: the audit trail."""

    __tablename__ = "agent_calls"
    __table_args__ = (Index(None, "pipeline_id"), Index(None, "question_id"), Index(None, "at_ms"))

    id: str = Field(primary_key=True)
    question_id: str
    number: int
    at_ms: int = Field(sa_type=BigInteger)
    task: str
    purpose: str
    pipeline_id: str | None = None
    step: str | None = None
    agent: str
    vendor: str
    requested_model: str
    served_model: str
    outcome: str
    error_class: str
    detail: str = Field(sa_type=Text)
    http_status: int | None = None
    duration_ms: float = Field(sa_type=Float)
    first_token_ms: float | None = Field(default=None, sa_type=Float)
    tokens_in: int = Field(sa_type=BigInteger)
    tokens_out: int = Field(sa_type=BigInteger)
    tokens_reasoning: int = Field(sa_type=BigInteger)
    tokens_cached: int = Field(sa_type=BigInteger)
    cost_usd: float = Field(sa_type=Float)
    cost_source: str
    rule: str
    prompt_version: str
    question_hash: str


class AgentAnswerRow(Row, table=True):
    """A checked answer that may be given again until it expires."""

    __tablename__ = "agent_cache"
    __table_args__ = (Index(None, "expires_ms"),)

    key: str = Field(primary_key=True)
    created_ms: int = Field(sa_type=BigInteger)
    expires_ms: int = Field(sa_type=BigInteger)
    task: str
    agent: str
    served_model: str
    text: str = Field(sa_type=Text)
    search_results: str = Field(sa_type=Text)
    cost_usd: float = Field(sa_type=Float)


class SubmissionRow(Row, table=True):
    """A question handed to the calling model, and its answer."""

    __tablename__ = "agent_submissions"

    id: str = Field(primary_key=True)
    created_ms: int = Field(sa_type=BigInteger)
    question_id: str
    task: str
    purpose: str
    schema_name: str
    question: str = Field(sa_type=Text)
    brief: str = Field(sa_type=Text)
    state: str
    answer: str | None = Field(default=None, sa_type=Text)
    answered_ms: int | None = Field(default=None, sa_type=BigInteger)


class PipelineStepRow(Row, table=True):
    """How one step of a pipeline ended."""

    __tablename__ = "pipeline_steps"

    pipeline_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    name: str
    pipeline: str
    state: str
    at_ms: int = Field(sa_type=BigInteger)
    input_hash: str
    output: str = Field(sa_type=Text)
    agent: str
    served_model: str
    attempts: int
    cost_usd: float = Field(sa_type=Float)
    tokens: int = Field(sa_type=BigInteger)


def _table(row: type[Row]) -> Table:
    return cast("Table", row.__table__)  # pyright: ignore[reportAttributeAccessIssue]


META = _table(MetaRow)
INSTRUMENTS = _table(InstrumentRow)
SERIES = _table(SeriesRow)
COVERAGE = _table(CoverageRow)
GAPS = _table(GapRow)
REVISIONS = _table(RevisionRow)
SEGMENTS = _table(SegmentRow)
POINTS = _table(PointRow)
JOBS = _table(JobRow)
LEASES = _table(LeaseRow)
RUNS = _table(RunRow)
RUN_METRICS = _table(RunMetricRow)
RUN_COLUMNS = _table(RunColumnsRow)
STRATEGIES = _table(StrategyRow)
BANS = _table(BanRow)
CALLERS = _table(CallerRow)
STUDIES = _table(StudyRow)
TRIAL_RETURNS = _table(TrialReturnsRow)
TRIALS = _table(TrialRow)
SEALS = _table(SealRow)
SEAL_HOLDERS = _table(SealHolderRow)
OPENINGS = _table(OpeningRow)
LEDGER_EVENTS = _table(LedgerEventRow)
RUN_STUDIES = _table(RunStudyRow)
SEARCH_BATCHES = _table(SearchBatchRow)
MARKET_SKETCHES = _table(MarketSketchRow)
PROBES = _table(ProbeRow)
AGENT_CALLS = _table(AgentCallRow)
AGENT_CACHE = _table(AgentAnswerRow)
AGENT_SUBMISSIONS = _table(SubmissionRow)
PIPELINE_STEPS = _table(PipelineStepRow)
