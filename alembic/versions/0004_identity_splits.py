"""identity of a database and its data directory, the rows of each part of a split"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("only", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("only", name=op.f("pk_identity")),
    )
    op.create_table(
        "splits",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_splits")),
    )
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("split_id", sa.String(length=64), nullable=True))
        batch.create_index(op.f("ix_jobs_split_id"), ["split_id"])
