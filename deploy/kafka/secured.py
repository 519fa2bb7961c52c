"""The embedded broker as two companies would run it, secured.

Its authority, its certificate and its operator's password are made anew at the first start and die with its directory.
"""

import secrets
import socket
import ssl
from pathlib import Path

from deploy.kafka.certificates import Authority, issue, make_authority
from deploy.kafka.embedded import COMMON_SETTINGS, EmbeddedKafka, answers_on
from deploy.kafka.security_settings import MECHANISM, Operator, write_security
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.security import Security, write_secret

OPERATOR = "operator"
LISTENERS = "listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"


class SecuredKafka(EmbeddedKafka):
    """`reauth_ms`: a connection lives no longer without proving its credential anew, so a dismissed user's ends by then."""

    def __init__(self, directory: Path | None = None, port: int | None = None, reauth_ms: int = 60_000) -> None:
        super().__init__(directory, port)
        self.reauth_ms = reauth_ms
        self.password = secrets.token_urlsafe(24)
        self.authority: Authority | None = None

    @property
    def ca(self) -> Path:
        return self.home / "ca.pem"

    def security(self, user: str, password: str) -> Security:
        """How somebody with this credential comes in."""
        return Security("sasl_tls", self.ca, user, password)

    @property
    def operator(self) -> Security:
        return self.security(OPERATOR, self.password)

    async def add_vendor(self, user: str = "vendor") -> Security:
        """A user for a vendor's node, with the rights that it needs."""
        password = secrets.token_urlsafe(24)
        gate = KafkaGate(self.address, self.operator)
        await gate.admit(user, password)
        await gate.allow_vendor(user)
        return self.security(user, password)

    def write_settings(self) -> str:
        if self.authority is None:
            self.authority = make_authority()
            self.ca.write_text(self.authority.pem)
            write_secret(self.home / "broker.pem", issue(self.authority, ["localhost", "127.0.0.1"]))
        where = (COMMON_SETTINGS + LISTENERS).format(port=self.port, controller=self.controller_port, directory=self.home)
        return where + write_security(["CLIENTS"], Operator(OPERATOR, self.password), self.password, str(self.home), self.reauth_ms)

    def first_users(self) -> tuple[str, ...]:
        return ("--add-scram", f"{MECHANISM}=[name={OPERATOR},password={self.password}]")

    def answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port or 0), timeout=1) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
            ):
                return answers_on(connection)
        except OSError:
            return False
