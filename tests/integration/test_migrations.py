"""The migrations make exactly the schema that the code expects, on both stores, for both nodes."""

import importlib
from types import ModuleType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from shared_schema.crm.database import Database
from shared_schema.crm.migrations import NotMigrated, check_migrated, migrate
from shared_schema.crm.tables import metadata

VENDOR_TABLES = {"reps", "assignments"}


@pytest.fixture(params=["partner", "vendor"])
def node(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{request.param}_node.spec")


async def test_a_migrated_store_is_what_the_code_expects(node: ModuleType, database_url: str) -> None:
    database = Database(database_url)
    try:
        with pytest.raises(NotMigrated, match="run `the-node migrate`"):
            await check_migrated(database, node.SPEC.migrations, "the-node")
        assert await migrate(database, node.SPEC.migrations) == await migrate(database, node.SPEC.migrations)
        await check_migrated(database, node.SPEC.migrations, "the-node")
        async with database.reading() as connection:
            assert await connection.run_sync(differences, node.SPEC.side) == []
    finally:
        await database.close()


def differences(connection: Connection, side: str) -> list[object]:
    """What autogenerate would change; a partner has no table of the vendor's."""
    found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    wanted = [each for each in found if not is_sqlites_alone(connection, each)]
    return [each for each in wanted if side == "vendor" or not concerns_vendor(each)]


def is_sqlites_alone(connection: Connection, difference: object) -> bool:
    """Autogenerate misses an index that is not meant for this store."""
    missed = difference[0] == "add_index" and difference[1].name == "ix_shared_records_digest" if isinstance(difference, tuple) else False
    return missed and connection.dialect.name == "postgresql"


def concerns_vendor(difference: object) -> bool:
    subject = difference[1] if isinstance(difference, tuple) else None
    table = getattr(subject, "table", subject)
    return getattr(table, "name", "") in VENDOR_TABLES
