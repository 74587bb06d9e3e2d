"""Keep what the agents leave behind: audit trail, cached answers, hand-ins, pipeline steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('agent_cache',
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('expires_ms', sa.BigInteger(), nullable=False),
    sa.Column('task', sa.String(), nullable=False),
    sa.Column('agent', sa.String(), nullable=False),
    sa.Column('served_model', sa.String(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('search_results', sa.Text(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_agent_cache'))
    )
    with op.batch_alter_table('agent_cache', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_agent_cache_expires_ms'), ['expires_ms'], unique=False)

    op.create_table('agent_calls',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('question_id', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('task', sa.String(), nullable=False),
    sa.Column('purpose', sa.String(), nullable=False),
    sa.Column('pipeline_id', sa.String(), nullable=True),
    sa.Column('step', sa.String(), nullable=True),
    sa.Column('agent', sa.String(), nullable=False),
    sa.Column('vendor', sa.String(), nullable=False),
    sa.Column('requested_model', sa.String(), nullable=False),
    sa.Column('served_model', sa.String(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('error_class', sa.String(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.Column('http_status', sa.Integer(), nullable=True),
    sa.Column('duration_ms', sa.Float(), nullable=False),
    sa.Column('first_token_ms', sa.Float(), nullable=True),
    sa.Column('tokens_in', sa.BigInteger(), nullable=False),
    sa.Column('tokens_out', sa.BigInteger(), nullable=False),
    sa.Column('tokens_reasoning', sa.BigInteger(), nullable=False),
    sa.Column('tokens_cached', sa.BigInteger(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.Column('cost_source', sa.String(), nullable=False),
    sa.Column('rule', sa.String(), nullable=False),
    sa.Column('prompt_version', sa.String(), nullable=False),
    sa.Column('question_hash', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_agent_calls'))
    )
    with op.batch_alter_table('agent_calls', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_agent_calls_at_ms'), ['at_ms'], unique=False)
        batch_op.create_index(batch_op.f('ix_agent_calls_pipeline_id'), ['pipeline_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_agent_calls_question_id'), ['question_id'], unique=False)

    op.create_table('agent_submissions',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('question_id', sa.String(), nullable=False),
    sa.Column('task', sa.String(), nullable=False),
    sa.Column('purpose', sa.String(), nullable=False),
    sa.Column('schema_name', sa.String(), nullable=False),
    sa.Column('question', sa.Text(), nullable=False),
    sa.Column('brief', sa.Text(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('answer', sa.Text(), nullable=True),
    sa.Column('answered_ms', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_agent_submissions'))
    )
    op.create_table('pipeline_steps',
    sa.Column('pipeline_id', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('pipeline', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('input_hash', sa.String(), nullable=False),
    sa.Column('output', sa.Text(), nullable=False),
    sa.Column('agent', sa.String(), nullable=False),
    sa.Column('served_model', sa.String(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.Column('tokens', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('pipeline_id', 'number', name=op.f('pk_pipeline_steps'))
    )


def downgrade() -> None:
    op.drop_table('pipeline_steps')
    op.drop_table('agent_submissions')
    with op.batch_alter_table('agent_calls', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_agent_calls_question_id'))
        batch_op.drop_index(batch_op.f('ix_agent_calls_pipeline_id'))
        batch_op.drop_index(batch_op.f('ix_agent_calls_at_ms'))

    op.drop_table('agent_calls')
    with op.batch_alter_table('agent_cache', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_agent_cache_expires_ms'))

    op.drop_table('agent_cache')
