"""Count what expressions were tried as, and know a market again under another name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('market_sketches',
    sa.Column('feed', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('symbol', sa.String(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=False),
    sa.Column('underlying', sa.String(), nullable=False),
    sa.Column('first_ms', sa.BigInteger(), nullable=False),
    sa.Column('last_ms', sa.BigInteger(), nullable=False),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('data', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('feed', 'category', 'symbol', 'sha256', name=op.f('pk_market_sketches'))
    )
    with op.batch_alter_table('market_sketches', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_market_sketches_feed_underlying'), ['feed', 'underlying'], unique=False)

    op.create_table('probes',
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('feed', sa.String(), nullable=False),
    sa.Column('underlying', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('symbol', sa.String(), nullable=False),
    sa.Column('interval', sa.String(), nullable=False),
    sa.Column('expression', sa.Text(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('hash', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_probes'))
    )
    with op.batch_alter_table('probes', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_probes_feed_underlying'), ['feed', 'underlying'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('probes', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_probes_feed_underlying'))

    op.drop_table('probes')
    with op.batch_alter_table('market_sketches', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_market_sketches_feed_underlying'))

    op.drop_table('market_sketches')
