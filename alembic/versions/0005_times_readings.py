"""when each epoch of a history was recorded, how a dataset's file was read"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("history", sa.Column("seconds", sa.LargeBinary(), nullable=True))
    op.add_column("datasets", sa.Column("reading", sa.JSON(none_as_null=True), nullable=True))
