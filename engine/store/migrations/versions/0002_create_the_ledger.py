"""Create the ledger: studies, trials, seals, openings; runs tell their feed and end."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from engine.core.timeframes import next_open
from engine.core.times import parse_time_ms
from engine.errors import LabError

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('ledger_events',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=True),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('hash', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_ledger_events'))
    )
    op.create_table('studies',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('feed', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('symbols', sa.Text(), nullable=False),
    sa.Column('sealed', sa.Boolean(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('already_seen', sa.Text(), nullable=False),
    sa.Column('trials', sa.Integer(), nullable=False),
    sa.Column('lost_trials', sa.Integer(), nullable=False),
    sa.Column('head', sa.String(), nullable=False),
    sa.Column('rolled_back_ms', sa.BigInteger(), nullable=True),
    sa.Column('witness_lost_ms', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_studies')),
    sa.UniqueConstraint('name', name=op.f('uq_studies_name'))
    )
    op.create_table('run_studies',
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_run_studies_study_id_studies')),
    sa.PrimaryKeyConstraint('run_id', 'study_id', name=op.f('pk_run_studies'))
    )
    op.create_table('seals',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('feed', sa.String(), nullable=False),
    sa.Column('underlying', sa.String(), nullable=False),
    sa.Column('from_ms', sa.BigInteger(), nullable=False),
    sa.Column('set_ms', sa.BigInteger(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('opened_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_seals_study_id_studies')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_seals'))
    )
    with op.batch_alter_table('seals', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_seals_feed_opened_ms'), ['feed', 'opened_ms'], unique=False)

    op.create_table('search_batches',
    sa.Column('job_id', sa.String(), nullable=False),
    sa.Column('batch_no', sa.Integer(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('symbol', sa.String(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('crc32', sa.BigInteger(), nullable=False),
    sa.Column('codec', sa.Integer(), nullable=False),
    sa.Column('data', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_search_batches_study_id_studies')),
    sa.PrimaryKeyConstraint('job_id', 'batch_no', name=op.f('pk_search_batches'))
    )
    op.create_table('trial_returns',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('feed', sa.String(), nullable=False),
    sa.Column('underlying', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('symbol', sa.String(), nullable=False),
    sa.Column('interval', sa.String(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('bars', sa.Integer(), nullable=False),
    sa.Column('data_sha256', sa.String(), nullable=False),
    sa.Column('costs_sha256', sa.String(), nullable=False),
    sa.Column('strategy', sa.String(), nullable=False),
    sa.Column('origin', sa.String(), nullable=False),
    sa.Column('job_id', sa.String(), nullable=True),
    sa.Column('seed', sa.BigInteger(), nullable=True),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('days', sa.Integer(), nullable=False),
    sa.Column('crc32', sa.BigInteger(), nullable=False),
    sa.Column('codec', sa.Integer(), nullable=False),
    sa.Column('marks', sa.LargeBinary(), nullable=False),
    sa.Column('data', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_trial_returns_study_id_studies')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_trial_returns'))
    )
    with op.batch_alter_table('trial_returns', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trial_returns_feed_underlying'), ['feed', 'underlying'], unique=False)
        batch_op.create_index(batch_op.f('ix_trial_returns_job_id'), ['job_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_trial_returns_study_id'), ['study_id'], unique=False)

    op.create_table('openings',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('seal_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('holdout_run_id', sa.String(), nullable=True),
    sa.ForeignKeyConstraint(['seal_id'], ['seals.id'], name=op.f('fk_openings_seal_id_seals')),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_openings_study_id_studies')),
    sa.PrimaryKeyConstraint('id', 'study_id', name=op.f('pk_openings'))
    )
    with op.batch_alter_table('openings', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_openings_run_id'), ['run_id'], unique=False)

    op.create_table('seal_holders',
    sa.Column('seal_id', sa.String(), nullable=False),
    sa.Column('study_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['seal_id'], ['seals.id'], name=op.f('fk_seal_holders_seal_id_seals')),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_seal_holders_study_id_studies')),
    sa.PrimaryKeyConstraint('seal_id', 'study_id', name=op.f('pk_seal_holders'))
    )
    op.create_table('trials',
    sa.Column('study_id', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('batch_id', sa.Integer(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('fingerprint', sa.String(), nullable=False),
    sa.Column('params', sa.Text(), nullable=False),
    sa.Column('trades', sa.Float(), nullable=True),
    sa.Column('daily_sharpe', sa.Float(), nullable=True),
    sa.Column('skew', sa.Float(), nullable=True),
    sa.Column('kurtosis', sa.Float(), nullable=True),
    sa.Column('total_return', sa.Float(), nullable=True),
    sa.Column('max_drawdown', sa.Float(), nullable=True),
    sa.Column('fees_paid', sa.Float(), nullable=True),
    sa.Column('hash', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['trial_returns.id'], name=op.f('fk_trials_batch_id_trial_returns')),
    sa.ForeignKeyConstraint(['study_id'], ['studies.id'], name=op.f('fk_trials_study_id_studies')),
    sa.PrimaryKeyConstraint('study_id', 'number', name=op.f('pk_trials')),
    sa.UniqueConstraint('study_id', 'key', name=op.f('uq_trials_study_id_key'))
    )
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('feed', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('end_ms', sa.BigInteger(), nullable=True))

    _tell_ends_of_runs()


def _tell_ends_of_runs() -> None:
    runs = sa.table('runs', sa.column('id'), sa.column('manifest'), sa.column('feed'), sa.column('end_ms'))
    connection = op.get_bind()
    for run_id, manifest in connection.execute(sa.select(runs.c.id, runs.c.manifest)).all():
        try:
            data = json.loads(manifest)['data']
            told = {'feed': data['feed'], 'end_ms': next_open(data['interval'], parse_time_ms(data['last_bar']))}
        except (ValueError, KeyError, TypeError, LabError):
            continue
        connection.execute(sa.update(runs).where(runs.c.id == run_id).values(**told))


def downgrade() -> None:
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.drop_column('end_ms')
        batch_op.drop_column('feed')

    op.drop_table('trials')
    op.drop_table('seal_holders')
    with op.batch_alter_table('openings', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_openings_run_id'))

    op.drop_table('openings')
    with op.batch_alter_table('trial_returns', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_trial_returns_study_id'))
        batch_op.drop_index(batch_op.f('ix_trial_returns_job_id'))
        batch_op.drop_index(batch_op.f('ix_trial_returns_feed_underlying'))

    op.drop_table('trial_returns')
    op.drop_table('search_batches')
    with op.batch_alter_table('seals', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_seals_feed_opened_ms'))

    op.drop_table('seals')
    op.drop_table('run_studies')
    op.drop_table('studies')
    op.drop_table('ledger_events')
