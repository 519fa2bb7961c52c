"""A certificate authority of our own, and a broker's certificate signed by it, as PEM: for the tests and for a first start."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 825
SKEW = timedelta(minutes=5)  # a peer's clock may be behind ours


class Authority(NamedTuple):
    """Who signs: its key and its own certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """What a client needs to verify what it signed."""
        return to_pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """What has to stay secret."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_authority(key_pem: str, pem: str) -> Authority:
    """The authority that these two texts tell of; raises ValueError."""
    key = load_pem_private_key(key_pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind than the ones made here")
    return Authority(key, x509.load_pem_x509_certificate(pem.encode()))


def serves(pem: str, authority: Authority, hosts: Sequence[str], spare: timedelta) -> bool:
    """Whether what `issue` made is still good: of this authority, for these hosts, and longer than `spare`."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.issuer == authority.certificate.subject
        and authority.pem in pem
        and [*names] == [general_name(host) for host in hosts]
        and certificate.not_valid_after_utc > datetime.now(UTC) + spare
    )


def to_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def make_authority(name: str = "Dealbridge") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name_of(f"{name} CA")
    builder = begin(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return Authority(key, builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()))


def issue(authority: Authority, hosts: Sequence[str]) -> str:
    """Key, certificate for these host names and addresses, and the CA, in one PEM: what a broker's keystore takes."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = begin(name_of(hosts[0]), authority.certificate.subject, key)
    names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])  # a controller is both
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=False), critical=True)
    for extension in (names, issuer, uses):
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return secret + to_pem(certificate) + authority.pem


def begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """A CA signs certificates and nothing else; a server signs its handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
