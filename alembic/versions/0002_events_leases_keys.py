"""events of jobs, leases of workers, idempotency keys"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TERMINAL = ("succeeded", "failed", "cancelled")

_jobs = sa.table(
    "jobs",
    *(sa.column(name) for name in ("id", "status", "attempt", "epochs_done", "changes")),
    *(sa.column(name) for name in ("error_code", "error_message", "model_name", "model_version")),
    *(
        sa.column(f"{what}_at", sa.DateTime(timezone=True))
        for what in ("created", "started", "finished")
    ),
)
_events = sa.table(
    "events",
    *(sa.column(name) for name in ("job_id", "id", "type")),
    sa.column("data", sa.JSON()),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
_history = sa.table(
    "history", sa.column("job_id"), sa.column("created_at", sa.DateTime(timezone=True))
)


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "id", name=op.f("pk_events")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("headers", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("seconds")
        batch.add_column(sa.Column("seconds_per_epoch", sa.Double(), nullable=True))
        batch.add_column(sa.Column("changes", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("worker", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("jobs") as batch:
        batch.alter_column("changes", server_default=None)
    with op.batch_alter_table("history") as batch:
        batch.add_column(sa.Column("created_at", sa.DateTime(timezone=True), nullable=True))
    connection = op.get_bind()
    for job in connection.execute(sa.select(_jobs)).all():
        past = _past(job)
        connection.execute(sa.insert(_events), past)
        connection.execute(sa.update(_jobs).where(_jobs.c.id == job.id).values(changes=len(past)))
        recorded = sa.update(_history).where(_history.c.job_id == job.id)
        connection.execute(recorded.values(created_at=job.started_at or job.created_at))
    with op.batch_alter_table("history") as batch:
        batch.alter_column("created_at", nullable=False)


def _past(job: Any) -> list[dict[str, Any]]:
    """What an older job's events would have been, as far as its row tells."""
    events: list[dict[str, Any]] = []

    def add(kind: str, data: dict[str, Any], when: Any, epochs: int = 0) -> None:
        events.append(
            {"job_id": job.id, "id": len(events) + 1 + epochs, "type": kind, "data": data}
            | {"created_at": when or job.created_at}
        )

    add("status", {"status": "queued", "attempt": 0}, job.created_at)
    if job.attempt:
        add("status", {"status": "running", "attempt": job.attempt}, job.started_at)
    if job.status not in ("queued", "running") or (job.status == "queued" and job.attempt):
        now = {"status": job.status, "attempt": job.attempt}
        add("status", now, job.finished_at or job.started_at, job.epochs_done)
        if job.status in _TERMINAL:
            add("done", {**now, **_result(job)}, job.finished_at, job.epochs_done)
    return events


def _result(job: Any) -> dict[str, Any]:
    error = model = None
    if job.error_code is not None:
        error = {"code": job.error_code, "message": job.error_message or ""}
    if job.model_name is not None:
        ref = f"{job.model_name}@{job.model_version}"
        model = {"name": job.model_name, "version": job.model_version, "ref": ref}
    return {"model": model, "error": error}
