"""Two nodes over a secured broker: the vendor with the rights that it is given, the partner with what its bundle brought."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.kafka.secured import SecuredKafka
from partner_node.spec import SPEC as PARTNER
from shared_schema.sync import joining, views
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.security import PLAINTEXT
from tests.integration.pair import Pair, Side, until
from vendor_node import partners
from vendor_node.spec import SPEC as VENDOR

DELIVERY_S = 5


class Wire:
    """The pair, the broker between them and its operator, and where the partner keeps its credential."""

    def __init__(self, pair: Pair, kafka: SecuredKafka, secrets: Path) -> None:
        self.pair = pair
        self.kafka = kafka
        self.secrets = secrets

    @property
    def operator(self) -> KafkaGate:
        return KafkaGate(self.kafka.address, self.kafka.operator)

    async def invite(self) -> dict[str, Any]:
        vendor = self.pair.vendor
        done = await partners.invite(vendor.station, vendor.author, vendor.broker, partners.Way("Initech", "Acme"))
        assert done.complete and done.bundle is not None, done.remedy
        self.pair.partnership = done.partnership
        return done.bundle

    async def join(self, bundle: dict[str, Any]) -> None:
        partner = self.pair.partner
        await joining.join(partner.station, partner.author, self.secrets, bundle)

    def connect_partner(self) -> None:
        """The partner's broker is the one that its bundle named."""
        way = joining.find_way(self.secrets, self.pair.partnership, "127.0.0.1:1")
        assert way is not None
        self.pair.partner.broker = KafkaBroker(*way, delivery_s=DELIVERY_S)

    async def do(self, command: Any, *arguments: Any) -> partners.Done:
        """One of the vendor's commands about this partner."""
        vendor = self.pair.vendor
        done: partners.Done = await command(vendor.station, vendor.author, vendor.broker, self.pair.partnership, *arguments)
        return done

    def troubles(self, side: Side) -> set[str]:
        return {trouble.kind for trouble in side.broker.list_troubles()}

    async def until_trouble(self, side: Side, kind: str) -> None:
        async def there() -> bool:
            return kind in self.troubles(side)

        await until(there)


@asynccontextmanager
async def open_wire(kafka: SecuredKafka, tmp_path: Path) -> AsyncIterator[Wire]:
    """Both run, are partners and share one active deal; its id is 1 on both sides."""
    vendor = Side(VENDOR, f"sqlite:///{tmp_path}/vendor.db", KafkaBroker(kafka.address, await kafka.add_vendor(), delivery_s=DELIVERY_S))
    partner = Side(PARTNER, f"sqlite:///{tmp_path}/partner.db", KafkaBroker("127.0.0.1:1", PLAINTEXT))
    wire = Wire(Pair(partner, vendor), kafka, tmp_path)
    try:
        await partner.set_up("Paula")
        await vendor.set_up("Victor")
        await wire.join(await wire.invite())
        wire.connect_partner()
        partner.start()
        vendor.start()
        await wire.pair.share_deal()

        async def active() -> bool:
            return bool(await partner.read(views.list_shared_deals, {"status": "active"}))

        await until(active)
        await wire.pair.settle()
        yield wire
    finally:
        await partner.close()
        await vendor.close()
        await partner.broker.stop()
        await vendor.broker.stop()
