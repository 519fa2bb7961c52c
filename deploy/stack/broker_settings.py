"""The settings of the stack's one broker: TLS on every listener, users by SCRAM, and nothing allowed that no ACL allows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MECHANISM = "SCRAM-SHA-512"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
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
inter.broker.listener.name=INSIDE
listener.security.protocol.map={protocols},CONTROLLER:SASL_SSL
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
{logins}
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={plain} required username="controller" password="{secret}" user_controller="{secret}";
ssl.keystore.type=PEM
ssl.keystore.location={place}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={place}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{operator};User:controller
connections.max.reauth.ms={reauth}
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
    names = [door.name for door in doors.doors]
    login = f'.scram-sha-512.sasl.jaas.config={SCRAM} required username="{operator}" password="{password}";'
    return SETTINGS.format(
        controller=CONTROLLER,
        listeners=",".join(f"{door.name}://:{door.port}" for door in doors.doors),
        advertised=",".join(f"{door.name}://{door.host}:{door.advertised_port}" for door in doors.doors),
        protocols=",".join(f"{name}:SASL_SSL" for name in names),
        logins="\n".join(f"listener.name.{name.lower()}{login}" for name in names),
        mechanism=MECHANISM,
        plain=PLAIN,
        secret=secret,
        place=PLACE,
        operator=operator,
        reauth=REAUTH_MS,
    )


def write_client_settings(user: str, password: str) -> str:
    """What Kafka's own command-line tools take to come in."""
    return f"""\
security.protocol=SASL_SSL
sasl.mechanism={MECHANISM}
sasl.jaas.config={SCRAM} required username="{user}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={PLACE}/ca.pem
"""
