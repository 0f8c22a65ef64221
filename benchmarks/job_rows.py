"""Rows of the job table as the service writes them, to write more of them by hand."""

from app.db.models import Job
from app.ids import new_id


def copy_of(job: Job, **changes: object) -> Job:
    """Return a new row with an id of its own, the columns of ``job`` and these changes."""
    columns = {column.key: getattr(job, column.key) for column in Job.__mapper__.column_attrs}
    return Job(**{**columns, "id": new_id("job"), **changes})
