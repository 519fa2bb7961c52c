"""`make up`: builds, starts, waits until all of it is healthy, and says where to look and what to come in with."""

import argparse
import sys
import time

from deploy.stack.engine import NO_ENGINE, Compose, ComposeFailed, NoEngine, find_engine, has_failed

WAIT_S = 300
PROFILES = ("demo", "chaos", "grafana")
# With the profile `chaos` every link goes through Toxiproxy.
CHAOS = {
    "BROKER_PROXY": "toxiproxy",
    "VENDOR_KAFKA": "toxiproxy:9192",
    "PARTNER_KAFKA": "toxiproxy:9292",
    "VENDOR_STORE": "toxiproxy:5401",
    "PARTNER_STORE": "toxiproxy:5402",
}
PAGES = (
    ("Vendor's API", "vendor-web", 8080, "/docs"),
    ("Partner's API", "partner-web", 8080, "/docs"),
    ("Prometheus", "prometheus", 9090, "/alerts"),
    ("Alertmanager", "alertmanager", 9093, ""),
    ("Grafana", "grafana", 3000, ""),
    ("Toxiproxy's API", "toxiproxy", 8474, "/proxies"),
)


def choose_stack(profiles: list[str], name: str = "", settings: dict[str, str] | None = None) -> Compose:
    """The stack with these profiles."""
    chosen = {"COMPOSE_PROFILES": ",".join(profiles)} if profiles else {}
    return Compose(name=name, settings=chosen | (CHAOS if "chaos" in profiles else {}) | (settings or {}))


def start(stack: Compose, wait_s: int = WAIT_S) -> None:
    """Build, start, and wait until every service is healthy; raises ComposeFailed with what is not."""
    stack.show("build", "--quiet")
    try:
        stack.show("up", "--detach", "--remove-orphans")
    except ComposeFailed as error:
        raise ComposeFailed(f"{error}; {stack.last_words()}") from None
    deadline_s = time.monotonic() + wait_s
    while missing := list_unready(stack):
        if time.monotonic() > deadline_s:
            raise ComposeFailed(f"after {wait_s} s not healthy: {', '.join(missing)}; `make logs` says why")
        time.sleep(1)


def list_unready(stack: Compose) -> list[str]:
    """What neither ended well, as a step does, nor is healthy; raises ComposeFailed for a step that failed. Of other profiles nothing."""
    unready, wanted = [], set(stack.read("config", "--services").split())
    for each in stack.list_containers():
        if each["Service"] not in wanted:
            continue
        if has_failed(each):
            raise ComposeFailed(stack.last_words())
        if each["State"] != "exited" and each["Health"] != "healthy":
            unready.append(f"{each['Service']} ({each['Health'] or each['State']})")
    return unready


def tell(stack: Compose) -> None:
    running = {each["Service"] for each in stack.list_containers() if each["State"] == "running"}
    print("\nEverything is healthy.\n")
    for title, service, port, path in PAGES:
        if service in running:
            print(f"  {title:16} http://{stack.address(service, port)}{path}")
    print(f"  {'Kafka':16} {stack.address('kafka', 9094)} (TLS, users by SCRAM-SHA-512)\n")
    for side in ("vendor", "partner"):
        print(f"  {side.capitalize() + ' admin':16} Authorization: Bearer {read_token(stack, side)}")
    if "grafana" in running:
        print(f"  {'Grafana admin':16} password {stack.inside('grafana', 'cat', '/secrets/watch/grafana-password').strip()}")
    print("\n  make logs · make down · deploy/README.md has the rest\n")


def read_token(stack: Compose, side: str) -> str:
    """The first admin's token, out of the side's volume."""
    return stack.inside(f"{side}-web", "cat", f"/secrets/{side}/admin-token").strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("profiles", nargs="*", help=f"of {', '.join(PROFILES)}")
    profiles = parser.parse_args().profiles
    if unknown := sorted(set(profiles) - set(PROFILES)):
        sys.exit(f"make up: there is no profile {unknown[0]}; there are {', '.join(PROFILES)}: make up ARGS='demo grafana'")
    stack = choose_stack(profiles)
    try:
        find_engine()
        start(stack)
        tell(stack)
    except NoEngine as error:
        print(f"make up: {error}", file=sys.stderr)
        sys.exit(NO_ENGINE)
    except ComposeFailed as error:
        sys.exit(f"make up: {error}")


if __name__ == "__main__":
    main()
