"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

# Before you commit this:
#  1. It must not hold a lock for long. On PostgreSQL a big table is changed in steps: add the
#     column empty, fill it in batches outside of the migration, constrain it in a later one.
#  2. The PREVIOUS version of the code still runs while and after it is applied: gateways are
#     replaced one by one. So add first and use later; stop using first and drop a release later.
#  3. Never edit a migration that is in main. Write the next one.


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
