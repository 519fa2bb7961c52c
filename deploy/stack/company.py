"""One company of the stack as its set-up sees it: its node's settings, and where its secrets are."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from partner_node.spec import SPEC as PARTNER
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import check_migrated
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.settings import Settings, locate_store, make_keeping
from shared_schema.sync.station import NodeSpec, Station
from vendor_node.spec import SPEC as VENDOR

SPECS = {"partner": PARTNER, "vendor": VENDOR}


class Company(NamedTuple):
    """`secrets` is the directory that its node has below /secrets."""

    spec: NodeSpec
    settings: Settings
    secrets: Path

    @property
    def token_file(self) -> Path:
        """The first admin's token."""
        return self.secrets / "admin-token"

    @property
    def brokers(self) -> Path:
        """Where `join` keeps the credentials that bundles bring."""
        return self.secrets / "brokers"

    @asynccontextmanager
    async def open(self, *, migrated: bool = True) -> AsyncIterator[Station]:
        """Its store; raises NotMigrated if it should be `migrated` and is not, DatabaseUnavailable or BadSettings."""
        database = Database(locate_store(self.settings))
        try:
            if migrated:
                await check_migrated(database, self.spec.migrations, f"{self.spec.side}-node")
            yield Station(self.spec, database, SystemClock(), make_keeping(self.settings))
        finally:
            await database.close()


def load_company(side: str, root: Path) -> Company:
    """A side's company, whose settings have the side in front: VENDOR_DATABASE, VENDOR_KAFKA, …"""
    prefix = f"{side.upper()}_"
    given = {name.removeprefix(prefix).lower(): value for name, value in os.environ.items() if name.startswith(prefix)}
    return Company(SPECS[side], Settings(**given), root / side)  # type: ignore[arg-type]  # pydantic checks and converts each of them
