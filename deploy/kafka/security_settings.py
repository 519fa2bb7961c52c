"""The part of a broker's settings about who comes in: TLS on every listener, users by SCRAM, and nothing allowed that no ACL allows."""

from collections.abc import Sequence
from typing import NamedTuple

MECHANISM = "SCRAM-SHA-512"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SETTINGS = """\
inter.broker.listener.name={own}
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
connections.max.reauth.ms={reauth_ms}
"""


class Operator(NamedTuple):
    """The broker's first user, who may do everything."""

    name: str
    password: str


def write_security(listeners: Sequence[str], operator: Operator, secret: str, place: str, reauth_ms: int) -> str:
    """Lines of server.properties. The first listener is the broker's own; `secret` is the controller's; `place` is the directory that has
    broker.pem and ca.pem; no connection outlives `reauth_ms` without proving its credential anew."""
    return SETTINGS.format(
        own=listeners[0],
        protocols=",".join(f"{name}:SASL_SSL" for name in listeners),
        mechanism=MECHANISM,
        logins="\n".join(f"listener.name.{name.lower()}.scram-sha-512.{log_in(*operator)}" for name in listeners),
        plain=PLAIN,
        secret=secret,
        place=place,
        operator=operator.name,
        reauth_ms=reauth_ms,
    )


def log_in(user: str, password: str) -> str:
    """The setting by which a broker or one of Kafka's own tools proves who it is."""
    return f'sasl.jaas.config={SCRAM} required username="{user}" password="{password}";'
