"""What must not be possible: a partner's credential beyond its own topics, and a secret where one is not kept."""

import json
import re
import subprocess
from pathlib import Path

from tests.compose.stand import NAME, Failed, Stand, check, docker

INTRUDER = Path(__file__).with_name("intruder.py")
UNWANTED = ("cc", "gcc", "g++", "clang", "make", "ld", "pip", "git", "curl", "wget")
IMAGE = "dealbridge:dev"
VOLUMES = ("authority", "broker-secrets", "vendor-secrets", "partner-secrets", "watch-secrets")
WORDS = (r"^([\w-]{20,})$", r"password=\"?([\w-]{20,})", r"\"password\": \"([\w-]{20,})")
KEY = re.compile(r"-----BEGIN PRIVATE KEY-----\n(.*?)\n-----END", re.DOTALL)
CHUNK = 1 << 24


def try_the_walls(stand: Stand) -> str:
    """With the partner's own credential, from its own network, at the vendor's topic and at another partner's."""
    stand.stack.inside("vendor-web", "vendor-node", "partners", "invite", "Umbra", "/state/umbra.json")
    bundle = json.loads(stand.stack.inside("vendor-web", "cat", "/state/umbra.json"))
    other = bundle["partnership"]
    said = stand.stack.inside("partner-sync", "python", "-", other, given=INTRUDER.read_text())
    tries = json.loads(said)
    through = [name for name, outcome in tries.items() if not outcome.startswith("refused") and not name.startswith("own:")]
    check(not through, f"it got through: {', '.join(through)}: {tries}")
    check(all(outcome == "done" for name, outcome in tries.items() if name.startswith("own:")), f"its own does not work: {tries}")
    stand.stack.inside("vendor-web", "vendor-node", "partners", "revoke", "Umbra")
    stand.stack.inside("vendor-web", "rm", "/state/umbra.json")
    return f"{len(tries)} tries; {', '.join(name for name in tries if not name.startswith('own:'))}: refused"


def try_the_networks(stand: Stand) -> str:
    """A side's sync reaches its database and the broker, and not the other side, nor who watches, nor the world."""
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    tried = {
        "partner-sync": (("partner-db", 5432, True), ("kafka", 9092, True), ("vendor-db", 5432, False), ("vendor-web", 8080, False)),
        "vendor-sync": (("vendor-db", 5432, True), ("kafka", 9092, True), ("partner-db", 5432, False), ("prometheus", 9090, False)),
        "vendor-db": (),
    }
    count = 0
    for service, targets in tried.items():
        for host, port, allowed in targets:
            done = stand.stack.run("exec", "-T", service, "python", "-c", reach, host, str(port), check=False)
            check((done.returncode == 0) is allowed, f"{service} → {host}:{port} is {'shut' if allowed else 'open'}: {done.stderr[-200:]}")
            count += 1
    for service in ("vendor-sync", "partner-sync"):
        routes = stand.stack.inside(service, "cat", "/proc/net/route")
        check("\t00000000\t" not in "".join(line.split("\t", 1)[1][:10] for line in routes.splitlines()[1:]), f"{service} has a way out")
    return f"{count} ways tried"


def read_secrets() -> set[str]:
    """Every word that opens something, from every volume: a line of its own, a password in settings, a line of a private key."""
    found: set[str] = set()
    for volume in VOLUMES:
        place = ("--volume", f"{NAME}_{volume}:/kept:ro", "--entrypoint", "sh", IMAGE, "-c")
        text = docker("run", "--rm", *place, "find /kept -type f ! -name cluster-id ! -name '*.pem' -exec cat {} +")
        found |= {word for pattern in WORDS for word in re.findall(pattern, text, flags=re.MULTILINE)}
        for key in KEY.findall(docker("run", "--rm", *place, "find /kept -name '*.pem' -exec cat {} +")):
            found |= set(key.split())
    check(len(found) >= 10, f"only {len(found)} secrets were found to look for")
    return found


def look_for_secrets(stand: Stand) -> str:
    """In no log, no variable, no label, no argument and no layer of the image is a word that opens something."""
    secrets = read_secrets()
    services = list(stand.containers())
    texts = {"the logs": stand.stack.run("logs", "--no-color", "--timestamps").stdout}
    for service in services:
        texts[f"docker inspect of {service}"] = json.dumps(stand.inspect(service))
    for service in ("vendor-web", "vendor-sync", "partner-web", "partner-sync", "vendor-db", "partner-db", "kafka"):
        texts[f"env in {service}"] = stand.stack.inside(service, "env")
    texts["the image's history"] = docker("history", "--no-trunc", IMAGE)
    texts["docker inspect of the image"] = docker("image", "inspect", IMAGE)
    check(len(texts["the logs"]) > 1_000, "there are no logs to look at")
    for place, text in texts.items():
        check(not any(secret in text for secret in secrets), f"a secret is in {place}")
    size = look_into_image(secrets)
    return f"{len(secrets)} secrets, {len(services)} containers, {size >> 20} MiB of image"


def look_into_image(secrets: set[str]) -> int:
    """Every byte of the image as it would be pushed; how many."""
    wanted = [secret.encode() for secret in secrets]
    overlap, tail, size = max(map(len, wanted)), b"", 0
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        while chunk := saving.stdout.read(CHUNK):
            window = tail + chunk
            check(not any(secret in window for secret in wanted), "a secret is in the image")
            tail, size = window[-overlap:], size + len(chunk)
    if saving.returncode != 0 or size < CHUNK:
        raise Failed("the image could not be read")
    return size


def look_at_the_image(stand: Stand) -> str:
    """No compiler, no installer, nobody root, nothing that could be changed."""
    found = f"for each in {' '.join(UNWANTED)}; do command -v $each; done"
    said = docker("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", f"{found}; touch /opt/dealbridge/x 2>/dev/null && echo changed; id -u")
    check(said.strip() == "10001", f"it has or may what it should not: {said!r}")
    for service in stand.containers():
        top = stand.inspect(service)
        check(top["HostConfig"]["ReadonlyRootfs"] and not top["HostConfig"]["Privileged"], f"{service} could change itself")
        check(
            top["HostConfig"]["CapDrop"] == ["ALL"] and top["Config"]["User"].split(":")[0] not in ("", "0", "root"),
            f"{service} may too much",
        )
    return "nobody is root, nothing can be changed, no compiler"
