"""Why no client gets through to the broker. The clients' own errors say the same of a wrong password, an unknown CA and a broker that is
down; one connection of our own finds the reason, and what to do about it.
"""

import ssl
from collections.abc import Iterator
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from shared_schema.sync.closing import close_within
from shared_schema.sync.security import CredentialUnreadable, Protocol, Security
from shared_schema.sync.transport import BrokerUnavailable, BrokerUntrusted, CredentialRefused

MECHANISM = "SCRAM-SHA-512"
WIRE: dict[Protocol, str] = {"plaintext": "PLAINTEXT", "tls": "SSL", "sasl_tls": "SASL_SSL"}
TELLING = (CredentialRefused, BrokerUntrusted, BrokerUnavailable)  # the most telling reason first, where brokers differ
REFUSALS = (AuthenticationFailedError, SaslAuthenticationFailed)
FAILURES = (KafkaError, OSError, TimeoutError)  # how a client of the library's says that it got nowhere


def client_options(security: Security) -> dict[str, Any]:
    """What either library's clients take, with the credential and the CA as they are now. Raises CredentialRefused or BrokerUntrusted."""
    options: dict[str, Any] = {"security_protocol": WIRE[security.protocol]}
    if security.protocol != "plaintext":
        options["ssl_context"] = make_context(security)
    if security.protocol == "sasl_tls":
        try:
            user, password = security.read_credential()
        except CredentialUnreadable as error:
            raise CredentialRefused(str(error)) from error
        options |= {"sasl_mechanism": MECHANISM, "sasl_plain_username": user, "sasl_plain_password": password}
    return options


def make_context(security: Security) -> ssl.SSLContext:
    """Verifies the broker's certificate and its name, always."""
    try:
        return ssl.create_default_context(cadata=security.read_ca())
    except CredentialUnreadable as error:
        raise BrokerUntrusted(str(error)) from error
    except (ssl.SSLError, ValueError) as error:
        raise BrokerUntrusted(f"{security.access_file or security.ca} holds no CA as PEM; set DEALBRIDGE_KAFKA_CA to one") from error


def addresses(brokers: str) -> Iterator[tuple[str, int]]:
    for each in brokers.split(","):
        host, _, port = each.strip().rpartition(":")
        yield host, int(port)


async def find_reason(brokers: str, security: Security, deadline_s: float) -> BrokerUnavailable | None:
    """Connect once to each broker: the most telling reason why none lets us in, or None if one does."""
    try:
        options = client_options(security)
    except BrokerUnavailable as error:
        return error
    reasons = []
    for host, port in addresses(brokers):
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(deadline_s * 1000), **options)
        except FAILURES as error:
            reasons.append(explain(error, f"{host}:{port}", security, options.get("sasl_plain_username", "")))
        else:
            await close_within(connection.close)
            return None
    return min(reasons, key=lambda each: TELLING.index(type(each)))


def explain(error: Exception, broker: str, security: Security, user: str) -> BrokerUnavailable:
    """One failed connection, in words: what is wrong and what to do."""
    if isinstance(error, REFUSALS):
        return CredentialRefused(
            f"{broker} refuses the user {user}: the password is wrong, or there is no such user (any more); correct "
            "DEALBRIDGE_KAFKA_USER and DEALBRIDGE_KAFKA_PASSWORD_FILE, or join with a new bundle (the vendor's `partners rotate` makes one)"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return CredentialRefused(f"{broker} does not know {MECHANISM}; add it to the broker's sasl.enabled.mechanisms")
    if isinstance(error, ssl.SSLCertVerificationError):
        vouching = security.access_file or security.ca or "the system's collection"
        return BrokerUntrusted(
            f"{broker} shows a certificate that no CA in {vouching} vouches for ({error.verify_message}); set DEALBRIDGE_KAFKA_CA to the "
            "CA that signed it, or join with the vendor's bundle, and use a host name that the certificate names"
        )
    remedy = "is the broker running, and DEALBRIDGE_KAFKA its address?"
    if isinstance(error, ssl.SSLError | ConnectionResetError) and security.protocol != "plaintext":
        remedy = f"does it speak TLS there? DEALBRIDGE_KAFKA_SECURITY is {security.protocol}"
    elif isinstance(error, KafkaError):  # it took the connection and closed it again
        remedy = f"it closed the connection at once: does it want more than {security.protocol} (DEALBRIDGE_KAFKA_SECURITY)?"
    return BrokerUnavailable(f"{broker} does not answer ({say(error)}); {remedy}")


def say(error: BaseException) -> str:
    return str(error) or type(error).__name__
