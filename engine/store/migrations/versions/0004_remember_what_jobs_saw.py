"""Remember which coins a job looked at and up to when, and what became of an opened holdout."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scopes", sa.Text(), nullable=True))
    with op.batch_alter_table("openings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("figures", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("openings", schema=None) as batch_op:
        batch_op.drop_column("figures")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("scopes")
