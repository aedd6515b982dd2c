"""caps on datasets, over all users and for one query; the version that a release has read"""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

AMOUNTS = ("spent_epsilon", "spent_delta")
CAPS = ("cap_epsilon", "cap_delta", "query_cap_epsilon", "query_cap_delta")


def upgrade() -> None:
    for name in AMOUNTS:
        op.add_column("dataset", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        # What was charged before this version counts.
        op.execute(
            f"UPDATE dataset SET {name} = "  # noqa: S608 (the names are ours)
            f"(SELECT COALESCE(SUM({name}), 0) FROM user_grant WHERE user_grant.dataset_id = dataset.id)"
        )
    for name in CAPS:
        op.add_column("dataset", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("release", sa.Column("dataset_version", sa.String(length=32), nullable=True))
    op.create_index("release_repeats", "release", ["user_id", "input_digest"])


def downgrade() -> None:
    op.drop_index("release_repeats", "release")
    # Not in batch mode, which copies and drops a table: SQLite refuses that while rows elsewhere refer to it.
    op.drop_column("release", "dataset_version")
    for name in (*AMOUNTS, *CAPS):
        op.drop_column("dataset", name)
