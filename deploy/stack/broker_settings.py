"""The settings of the stack's one broker: where it listens, and for whom."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from deploy.kafka.security_settings import MECHANISM, Operator, log_in, write_security

PLACE = "/secrets/broker"
INSIDE, CONTROLLER = 9092, 9093
REAUTH_MS = 3_600_000
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs=/var/lib/kafka/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
controlled.shutdown.max.retries=1
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
"""


class Door(NamedTuple):
    """A listener: where it listens inside, and the address that clients are told to come back to."""

    name: str
    port: int
    host: str
    advertised_port: int


class Doors(NamedTuple):
    """All listeners but the controller's."""

    doors: Sequence[Door]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Doors":
        """The one for the nodes; the published one, for BROKER_HOST:BROKER_PORT; with BROKER_PROXY one behind it for each side."""
        host, port, proxy = (environment.get(f"BROKER_{name}", "") for name in ("HOST", "PORT", "PROXY"))
        doors = [Door("INSIDE", INSIDE, "kafka", INSIDE), Door("OUTSIDE", 9094, host or "localhost", int(port or 9094))]
        if proxy:
            doors += [Door("VENDORPROXY", 9192, proxy, 9192), Door("PARTNERPROXY", 9292, proxy, 9292)]
        return cls(doors)

    @property
    def hosts(self) -> list[str]:
        """The names that the broker's certificate has to bear."""
        return list(dict.fromkeys(["kafka", "localhost", "127.0.0.1", *(door.host for door in self.doors)]))


def write_settings(doors: Doors, operator: str, password: str, secret: str) -> str:
    """The broker's server.properties; `secret` is the controller's."""
    where = SETTINGS.format(
        controller=CONTROLLER,
        listeners=",".join(f"{door.name}://:{door.port}" for door in doors.doors),
        advertised=",".join(f"{door.name}://{door.host}:{door.advertised_port}" for door in doors.doors),
    )
    return where + write_security([door.name for door in doors.doors], Operator(operator, password), secret, PLACE, REAUTH_MS)


def write_client_settings(user: str, password: str) -> str:
    """What Kafka's own command-line tools take to come in."""
    return f"""\
security.protocol=SASL_SSL
sasl.mechanism={MECHANISM}
{log_in(user, password)}
ssl.truststore.type=PEM
ssl.truststore.location={PLACE}/ca.pem
"""
