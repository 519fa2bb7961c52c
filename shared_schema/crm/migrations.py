"""The store's schema, brought up to date by Alembic: each node has its own revisions, run explicitly."""

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from shared_schema.crm.database import Database
from shared_schema.crm.tables import metadata


class NotMigrated(RuntimeError):
    """The store's schema is not the one that this version needs; the message says what to run."""


def make_config(package: str) -> Config:
    config = Config()
    config.set_main_option("script_location", package.replace(".", ":", 1).replace(".", "/"))
    config.set_main_option("path_separator", "os")
    return config


async def migrate(database: Database, package: str) -> str:
    """Bring the store up to the newest revision, in one transaction; the revision."""
    async with database.transaction() as tx:
        await tx.run_sync(upgrade, package)
    return newest(package)


def upgrade(connection: Connection, package: str) -> None:
    config = make_config(package)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_environment() -> None:
    """What each node's env.py runs, within Alembic."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


def newest(package: str) -> str:
    return ScriptDirectory.from_config(make_config(package)).get_current_head() or ""


async def check_migrated(database: Database, package: str, program: str) -> None:
    """Raises NotMigrated where the store lacks revisions."""
    async with database.reading() as connection:
        current = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if current != newest(package):
        raise NotMigrated(f"the store is at revision {current or 'none'}, this version needs {newest(package)}: run `{program} migrate`")
