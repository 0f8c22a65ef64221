"""aliases and lineage of model versions, versions made from checkpoints"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_jobs = sa.table(
    "jobs", sa.column("id"), sa.column("spec", sa.JSON()), sa.column("split", sa.JSON())
)
_models = sa.table("models", sa.column("id"), sa.column("job_id"), sa.column("lineage", sa.JSON()))


def upgrade() -> None:
    with op.batch_alter_table("models") as batch:
        batch.add_column(sa.Column("checkpoint_id", sa.String(length=32), nullable=True))
        batch.add_column(sa.Column("lineage", sa.JSON(none_as_null=True), nullable=True))
    connection = op.get_bind()
    made_by = _models.outerjoin(_jobs, _jobs.c.id == _models.c.job_id)
    told = sa.select(_models.c.id, _jobs.c.spec, _jobs.c.split).select_from(made_by)
    for model in connection.execute(told).all():
        # what a deleted job was told is gone; the libraries' versions stand in the artifact only
        lineage = {"spec": model.spec, "split": model.split, "versions": None}
        connection.execute(
            sa.update(_models).where(_models.c.id == model.id).values(lineage=lineage)
        )
    with op.batch_alter_table("models") as batch:
        batch.alter_column("lineage", nullable=False)
    op.create_table(  # last, since batch mode makes the table anew that it refers to
        "aliases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name=op.f("fk_aliases_name_version_models"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "alias", name=op.f("pk_aliases")),
    )
    op.create_index("ix_aliases_name_version", "aliases", ["name", "version"])
