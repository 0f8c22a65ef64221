"""Whether the server can do its work, and what it is doing."""

from collections.abc import Callable

from sqlalchemy import func, select

from app.db.models import Dataset, Job, ModelVersion
from app.runtime.context import Context


def checks(context: Context, worker_alive: Callable[[], bool]) -> dict[str, str]:
    """Return for each part of the server ``ok`` or what is wrong with it."""
    return {
        "server": "stopping" if context.stopping.is_set() else "ok",
        "database": _database(context),
        "storage": context.storage.check(),
        "worker": "ok" if worker_alive() else "not running",
    }


def _database(context: Context) -> str:
    try:
        with context.database.read() as session:
            session.execute(select(Job.id).limit(1))
    except Exception as error:
        return f"cannot be read: {type(error).__name__}"
    return "ok"


def counts(context: Context) -> tuple[dict[str, int], dict[str, int]]:
    """Return ``(jobs by status, stored resources by kind)``."""
    with context.database.read() as session:
        statuses = select(Job.status, func.count().label("jobs")).group_by(Job.status)
        by_status = {row.status: row.jobs for row in session.execute(statuses)}
        return by_status, {
            "datasets": session.scalars(select(func.count(Dataset.id))).one(),
            "models": session.scalars(select(func.count(ModelVersion.id))).one(),
        }
