"""The tables. Each field and state is explained here, once."""

from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.ml.specs import JobSpec

JobStatus = Literal[
    "queued",  # waits for a worker; a crash leaves it as it is
    "running",  # a worker trains it; a crash of worker or child sends it back to queued
    "cancelling",  # asked to stop; a crash, like its end, makes it cancelled
    "pausing",  # asked to pause; a crash makes it paused, its own end succeeded or failed
    "paused",  # waits to be resumed, its checkpoints kept; a crash leaves it as it is
    "succeeded",  # final: a model version exists
    "failed",  # final: error_code and error_message say why
    "cancelled",  # final: a client asked for it
]
"""The states of a job; ``services.jobs.queue`` has the transitions between them."""
JOB_STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)
TERMINAL: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
"""The states that a job never leaves."""
OWNED: tuple[JobStatus, ...] = ("running", "cancelling", "pausing")
"""The states in which a worker holds the job."""


def now() -> datetime:
    """Return the wall clock in UTC, for people to read; nothing is decided by comparing two."""
    return datetime.now(UTC)


class UTCDateTime(TypeDecorator[datetime]):
    """Stores aware datetimes and gives them back in UTC; SQLite itself has no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a value to UTC on its way to the database."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a value that comes without a zone its UTC."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class SpecJSON(TypeDecorator[JobSpec]):
    """Stores a job's spec as JSON and gives it back validated, so nobody indexes a raw dict."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Dump a spec; a dict, as a backup copies it, goes through unchanged."""
        return value.model_dump(mode="json") if isinstance(value, JobSpec) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> JobSpec | None:
        """Validate what is stored. Raises pydantic's ValidationError where it is no spec."""
        return None if value is None else JobSpec.model_validate(value)


class Base(DeclarativeBase):
    """What all tables share: the names of constraints and the types of columns."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        int: BigInteger,
        datetime: UTCDateTime,
        JobSpec: SpecJSON,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON,
    }


class Dataset(Base):
    """An immutable table; its bytes are the artifact ``datasets/<id>``."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(64), unique=True)
    rows: Mapped[int]
    columns: Mapped[list[Any]]  # as app.ml.tables.profile gives them
    warnings: Mapped[list[Any]]
    reading: Mapped[dict[str, Any] | None]  # of a text file; None: by an older fitserve
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """A training job; the row is the queue entry as well."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN {JOB_STATUSES}", name="status"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="error"),
        CheckConstraint("(status = 'succeeded') = (model_name IS NOT NULL)", name="model"),
        Index("ix_jobs_queue", "status", "priority", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # sorts by time of creation
    status: Mapped[JobStatus] = mapped_column(
        String(16), default="queued"
    )  # by services.jobs.queue
    spec: Mapped[JobSpec]  # every field filled in
    split: Mapped[dict[str, Any]]  # how many rows each part has
    # the rows of each part; no foreign key: one that is missing is made anew from the spec, as for
    # jobs of an older fitserve, which have none
    split_id: Mapped[str | None] = mapped_column(String(64), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    # no foreign key: a finished job outlives its dataset
    dataset_id: Mapped[str] = mapped_column(String(32), index=True)
    dataset_name: Mapped[str | None] = mapped_column(String(64))
    dataset_sha256: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(default=0)  # claims so far; the fence of every write
    crashes: Mapped[int] = mapped_column(default=0)  # unplanned ends of its process
    epochs_done: Mapped[int] = mapped_column(default=0)  # epochs in the history
    seconds_per_epoch: Mapped[float | None]  # in this attempt, by a monotonic clock
    changes: Mapped[int] = mapped_column(default=0)  # rows in events
    worker: Mapped[str | None] = mapped_column(String(64))  # who holds it; Postgres only
    lease_until: Mapped[datetime | None]  # by the database's clock; Postgres only
    last: Mapped[dict[str, Any] | None]  # values of the last recorded epoch
    best: Mapped[dict[str, Any] | None]  # epoch and values of the best weights
    test: Mapped[dict[str, Any] | None]  # metrics on the test part
    baseline: Mapped[dict[str, Any] | None]  # the same of a constant prediction
    warnings: Mapped[list[Any]]
    error_code: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(String(1024))
    model_name: Mapped[str | None] = mapped_column(String(64))
    model_version: Mapped[int | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class SplitRows(Base):
    """The row numbers of each part of a split, shared by all jobs that are split alike."""

    __tablename__ = "splits"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the rows
    rows: Mapped[bytes] = mapped_column(LargeBinary)  # app.ml.data.splits.Split.to_bytes


class JobEvent(Base):
    """A change of a job's status, or its end.

    Ids count changes and recorded epochs together: what is no row here is an epoch in the history,
    in order. So every id from 1 to ``changes + epochs_done`` is exactly one event.
    """

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(16))  # status, done
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class HistoryChunk(Base):
    """Consecutive epochs of a job: float64 little-endian, one series after the other.

    The newest chunk grows while it is small. Together they hold every epoch exactly once, in order.
    """

    __tablename__ = "history"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    first_epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epochs: Mapped[int]
    names: Mapped[list[Any]]  # of the series, in order
    values: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)  # of its first epoch
    seconds: Mapped[bytes | None] = mapped_column(LargeBinary)  # from then to each; None: not known


class Checkpoint(Base):
    """Where a job stood, in its middle or at its end; the artifact ``checkpoints/<id>``."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    epoch: Mapped[int]
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ModelName(Base):
    """The last version number given out under a name; never deleted, so that none is used twice."""

    __tablename__ = "model_names"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    last_version: Mapped[int]


class ModelVersion(Base):
    """A trained model; its bytes are the artifact ``models/<id>``.

    A job's success makes one, and so do every promotion of one of its checkpoints, and an import.
    """

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("model_names.name"))
    version: Mapped[int]
    # no foreign keys: a model outlives its job, its checkpoint and its dataset
    job_id: Mapped[str] = mapped_column(String(32), index=True)  # empty: another server's
    checkpoint_id: Mapped[str | None] = mapped_column(String(32))  # null: the job's own result
    dataset_id: Mapped[str] = mapped_column(String(32))
    dataset_sha256: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(16))
    features: Mapped[list[Any]]  # name and type of each, in order
    target: Mapped[list[Any]]  # names
    metrics: Mapped[dict[str, Any]]  # best, test, baseline
    # spec, split and library versions it was made with; null where an older fitserve kept none
    lineage: Mapped[dict[str, Any]]
    parameters: Mapped[int]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Alias(Base):
    """A name for one version of a model that can be moved to another; it goes with its version."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"], ["models.name", "models.version"], ondelete="CASCADE"
        ),
        Index("ix_aliases_name_version", "name", "version"),
    )

    name: Mapped[str] = mapped_column(String(64), primary_key=True)  # of the model
    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)  # when it was last put


class Identity(Base):
    """Which data directory this database belongs to; at most one row (``runtime.identity``)."""

    __tablename__ = "identity"

    only: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    id: Mapped[str] = mapped_column(String(32))  # the same as in the directory's identity.json
    generation: Mapped[int]  # rises with every start and every round of housekeeping


class IdempotencyKey(Base):
    """The answer that a creating request was given, for 24 hours; committed with what it made."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))  # of method, path, query and content
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
