"""The links of a town: each side's own way to the broker, and to the database where that is a server. Each can be harmed by itself."""

from pathlib import Path

from deploy.kafka.embedded import COMMON_SETTINGS, EmbeddedKafka, free_port
from tests.chaos.schedule import SIDES
from tests.chaos.toxiproxy import Link, Toxiproxy
from tests.postgres import EmbeddedPostgres

BROKER, DATABASE = "broker", "database"
SETTINGS = """\
listeners=PLAINTEXT://127.0.0.1:{port},PARTNER://127.0.0.1:{partner},VENDOR://127.0.0.1:{vendor},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PARTNER://127.0.0.1:{partner_link},VENDOR://127.0.0.1:{vendor_link}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PARTNER:PLAINTEXT,VENDOR:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""


class LinkedKafka(EmbeddedKafka):
    """A broker with a listener of its own for each side, which is said to be where that side's link begins."""

    def __init__(self, directory: Path, proxy: Toxiproxy) -> None:
        super().__init__(directory)
        self.ports = {side: free_port() for side in SIDES}
        self.links = {side: proxy.open_link(f"{side}-{BROKER}", port) for side, port in self.ports.items()}

    def write_settings(self) -> str:
        begins = {f"{side}_link": link.port for side, link in self.links.items()}
        return (COMMON_SETTINGS + SETTINGS).format(
            port=self.port, controller=self.controller_port, directory=self.home, **self.ports, **begins
        )


def open_links(kafka: EmbeddedKafka, postgres: EmbeddedPostgres | None, proxy: Toxiproxy | None) -> dict[tuple[str, str], Link]:
    """By side and the end that they lead to; none without a proxy."""
    if proxy is None or not isinstance(kafka, LinkedKafka):
        return {}
    links = {(side, BROKER): link for side, link in kafka.links.items()}
    if postgres is not None:
        links |= {(side, DATABASE): proxy.open_link(f"{side}-{DATABASE}", postgres.port) for side in SIDES}
    return links


def through(link: Link, url: str) -> str:
    """The address of a database as it is behind the link: `postgresql://user@host:port/name`."""
    place, _, name = url.rpartition("/")
    return f"{place.rsplit(':', 1)[0]}:{link.port}/{name}"


# What each fault does to a link. A timeout of 0 swallows what comes and says nothing, as a half-open connection does.
HARM: dict[str, tuple[str, dict[str, int], tuple[str, ...]]] = {
    "link silent": ("timeout", {"timeout": 0}, ("upstream", "downstream")),
    "link silent one way": ("timeout", {"timeout": 0}, ("upstream",)),
    "link silent the other way": ("timeout", {"timeout": 0}, ("downstream",)),
    "link slow": ("latency", {"latency": 400, "jitter": 300}, ("upstream", "downstream")),
    "link narrow": ("bandwidth", {"rate": 24}, ("upstream", "downstream")),  # KB/s
    "link reset": ("reset_peer", {"timeout": 50}, ("upstream", "downstream")),
    "link closes slowly": ("slow_close", {"delay": 2_000}, ("upstream", "downstream")),
}


def harm(link: Link, what: str) -> None:
    if what == "link cut":
        link.cut()
    else:
        link.harm(*HARM[what])
