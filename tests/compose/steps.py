"""What the stack has to show, step by step; each takes the stand as the one before left it."""

import math
import time

import httpx

from tests.compose.stand import NAME, Stand, check, docker, until

LAG = "histogram_quantile(0.99, sum by (le, direction) (rate(dealbridge_one_way_lag_seconds_bucket[2m])))"
CUT = "BrokerTrouble|PeerSilent"
LASTING = ("vendor-web", "partner-web", "vendor-sync", "partner-sync", "vendor-db", "partner-db", "kafka", "prometheus", "alertmanager")
STOP_S = 10
KILLED = 137


def share_and_edit(stand: Stand) -> str:
    """A deal is registered and edited on both sides, and is the same on both."""
    registration = stand.share()
    stand.edit_both(registration, "first")
    values = stand.until_in_step(registration, "first")
    return f"{len(values)} fields and the notes are the same on both sides"


def read_lag(stand: Stand) -> str:
    """Prometheus sees every process, and tells the lag of both directions."""
    registration = stand.share()
    wanted = {(side, role) for side in ("vendor", "partner") for role in ("web", "sync")}
    seen = 'up{job="dealbridge"} == 1'
    until(
        "Prometheus sees all of them",
        lambda: wanted <= {(each["metric"]["side"], each["metric"]["role"]) for each in stand.ask_prometheus(seen)},
    )
    words = iter(range(1_000))

    def edit_and_look() -> dict[str, float]:
        stand.edit_both(registration, f"lag {next(words)}")
        found = {each["metric"]["direction"]: float(each["value"][1]) for each in stand.ask_prometheus(LAG)}
        return {name: value for name, value in found.items() if not math.isnan(value)}  # where nothing was counted yet

    lags = until("both directions have a lag", lambda: found if len(found := edit_and_look()) == 2 else None)
    return "p99 " + ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in sorted(lags.items()))


def cut_the_link(stand: Stand) -> str:
    """The partner's way to the broker is cut: it is told, by an alert where there are rules; nothing is lost, and all is well again."""
    registration = stand.share()
    container, network = stand.containers()["partner-sync"]["ID"], f"{NAME}_partner-broker"
    docker("network", "disconnect", network, container)
    stand.edit_both(registration, "while cut")
    until("the partner's sync is unhealthy", lambda: stand.containers()["partner-sync"]["Health"] == "unhealthy")
    trouble = 'max(dealbridge_broker_trouble_partnerships{side="partner"})'
    until("the metric says so", lambda: [each for each in stand.ask_prometheus(trouble) if each["value"][1] == "1"])
    alerts = until("an alert fires", lambda: list_firing(stand)) if has_rules(stand) else set()
    if alerts:
        until("Alertmanager has it", lambda: list_alertmanagers(stand) & alerts)
    docker("network", "connect", network, container)
    stand.until_in_step(registration, "while cut")
    stand.until_healthy("partner-sync")
    until("the metric is well", lambda: not [each for each in stand.ask_prometheus(trouble) if each["value"][1] == "1"])
    if alerts:
        until("it has cleared", lambda: not list_firing(stand), 300)
    return f"fired and cleared: {', '.join(sorted(alerts))}" if alerts else "told by the metric (there are no rules)"


def has_rules(stand: Stand) -> bool:
    answer = httpx.get(f"http://{stand.stack.address('prometheus', 9090)}/api/v1/rules", timeout=10).raise_for_status()
    return any(rule["type"] == "alerting" for group in answer.json()["data"]["groups"] for rule in group["rules"])


def list_firing(stand: Stand) -> set[str]:
    """Alerts that tell of a link that is cut."""
    return {
        each["metric"]["alertname"] for each in stand.ask_prometheus(f'ALERTS{{alertstate="firing", alertname=~"{CUT}", side="partner"}}')
    }


def list_alertmanagers(stand: Stand) -> set[str]:
    answer = httpx.get(f"http://{stand.stack.address('alertmanager', 9093)}/api/v2/alerts", timeout=10).raise_for_status()
    return {each["labels"]["alertname"] for each in answer.json()}


def restart_each(stand: Stand) -> str:
    """Every service is stopped and started, one by one, between an edit and its arrival: it ends by itself in time, and nothing is lost."""
    registration, words, slowest = stand.share(), [], ("", 0.0)
    for service in LASTING:
        stand.edit_both(registration, f"before {service}")
        words.append(f"before {service}")
        began_s = time.monotonic()
        stand.stack.run("stop", "--timeout", str(STOP_S), service)
        took_s = time.monotonic() - began_s
        code = stand.inspect(service)["State"]["ExitCode"]
        check(code != KILLED, f"{service} did not stop within {STOP_S} s and was killed")
        slowest = max(slowest, (service, took_s), key=lambda each: each[1])
        docker("start", stand.containers()[service]["ID"])  # alone: the engine would run every step before it again
        stand.until_healthy(service)
        stand.connect()
        stand.until_in_step(registration, *words)
    return f"{len(words)} services; slowest to stop was {slowest[0]} with {slowest[1]:.1f} s"


def start_again(stand: Stand) -> str:
    """`make up` once more changes nothing of what is there."""
    registration = stand.share()
    stand.edit_both(registration, "once more")
    before = stand.until_in_step(registration, "once more")
    tokens = [each.client.headers["Authorization"] for each in (stand.partner, stand.vendor)]
    partners = stand.stack.inside("vendor-web", "vendor-node", "partners", "list", "--json")
    stand.start()
    check(stand.until_in_step(registration, "once more") == before, "values have changed")
    check([each.client.headers["Authorization"] for each in (stand.partner, stand.vendor)] == tokens, "tokens have changed")
    check(stand.stack.inside("vendor-web", "vendor-node", "partners", "list", "--json") == partners, "partnerships have changed")
    return "the same values, tokens and partnership"


def run_by_hand(stand: Stand) -> str:
    """The manual's daily commands: status, upgrade, backup, putting one back, rotations. After each both sides go on in step."""
    registration, words = stand.share(), []
    names = ("status", "upgrade", "backup", "rotate-partner", "rotate-vendor", "rotate-database", "renew-certificate", "restore")
    for name in names:
        stand.script(name)
        stand.connect_when_healthy()
        stand.edit_both(registration, f"after {name}")
        words.append(f"after {name}")
        stand.until_in_step(registration, *words)
    return f"{', '.join(names)}: nothing lost, the restored vendor has what came after the backup too"
