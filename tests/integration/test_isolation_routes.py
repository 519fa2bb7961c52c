"""One partner's token and the other's ids, at every route of all three nodes: nothing is shown, nothing is done."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import select, text

from partner_node.routes import ROUTERS as PARTNER_ROUTERS
from shared_schema.crm import users
from shared_schema.crm.tables import property_history
from shared_schema.web.app import make_app
from tests.integration.pair import DETAILS, Side
from tests.integration.test_isolation import FIRST_ID, check_nothing_of, live, secrets_of, trio
from tests.integration.tries import check_tries
from tests.integration.trio import Trio
from vendor_node.routes import ROUTERS as VENDOR_ROUTERS

__all__ = ["trio"]

Json = dict[str, Any]
ROUTES_MIN = 45
OWN_ID = 1
OPEN = {"/healthz", "/readyz", "/metrics"}  # without a token; what a partner's own process measures is test_isolation_processes.py's
SAID_INSIDE = {"`POST /api/dead-letters/replay`": '"result":"gone"'}  # of many at once each has its own word in the answer
FILTERS = ("partnership", "deal_id", "owner_id", "company_id")


class Route(NamedTuple):
    """One operation, as the app has it; `operation` is its description in OpenAPI, with the document that it refers to."""

    method: str
    path: str
    operation: Json
    document: Json

    @property
    def name(self) -> str:
        return f"`{self.method} {self.path}`"


class Node(NamedTuple):
    """A company's node, as whoever has this token sees it."""

    app: FastAPI
    client: httpx.AsyncClient

    @classmethod
    def of(cls, side: Side, token: str) -> "Node":
        app = make_app(side.station, side.broker, VENDOR_ROUTERS if side.station.spec.side == "vendor" else PARTNER_ROUTERS)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return cls(app, httpx.AsyncClient(transport=transport, base_url="http://node", headers={"Authorization": f"Bearer {token}"}))

    def list_routes(self) -> list[Route]:
        """All that the app answers, whether its document tells of it or not."""
        document = self.app.openapi()
        found = []
        for route in walk(self.app.routes):
            for method in sorted(route.methods):
                operation = document["paths"].get(route.path, {}).get(method.lower())
                assert operation or route.path in OPEN, f"{method} {route.path} is in no document"
                found.append(Route(method, route.path, operation or {}, document))
        assert len(found) > ROUTES_MIN
        return found

    async def ask(self, route: Route, in_path: Json, elsewhere: Json) -> httpx.Response:
        path = fill_path(route, in_path)
        query, body = fill_rest(route, elsewhere)
        return await self.client.request(route.method, path, params=query, json=body)


def walk(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """The routes of an app, those of the routers that it includes as well."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from walk(route.original_router.routes)


async def make_token(side: Side) -> str:
    """An admin's: the most that anybody of a company may do."""
    async with side.station.working() as work:
        uid = work.incarnation.new_uid()
        user_id = await users.add_user(work.tx, uid, "Root", f"root@{side.station.spec.side}.example", "admin")
        return await users.issue_token(work.tx, user_id, "tests", side.station.clock.random_bits(192), work.now_ms)


async def ids_of(trio: Trio, name: str, first: int) -> Json:
    """What a request of a partner names: the partnership, an event, and ids, all of its own."""
    written = select(property_history.c.event).where(property_history.c.source == "local").order_by(property_history.c.id).limit(1)
    (row,) = await trio.partners[name].rows(written)
    return {"partnership": trio.partnerships[name], "event": row.event, "id": first}


def fill_path(route: Route, ids: Json) -> str:
    path = route.path
    for parameter in route.operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(ids.get(parameter["name"], ids["id"])))
    return path


def fill_rest(route: Route, ids: Json) -> tuple[Json, Any]:
    """Query and body, with ids wherever one goes."""
    asked = [each for each in route.operation.get("parameters", []) if each["in"] == "query" and each["name"] in FILTERS]
    query = {each["name"]: fill(route.document, each["schema"], each["name"], ids) for each in asked}
    body = route.operation.get("requestBody")
    return query, fill(route.document, body["content"]["application/json"]["schema"], "", ids) if body else None


def fill(document: Json, schema: Json, name: str, ids: Json) -> Any:
    """A value that a schema takes, naming somebody's things."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return fill(document, schema["anyOf"][0], name, ids)
    if name in ids:
        return ids[name]
    if schema.get("type") == "object":
        return fill_object(document, schema, name, ids)
    if schema.get("type") == "array":
        return [ids["id"]] if schema["items"].get("type") == "integer" else []
    values = {"integer": ids["id"] if is_name(name) else 1, "boolean": False, "string": schema.get("enum", ["x"])[0]}
    return values[str(schema.get("type"))]


def fill_object(document: Json, schema: Json, name: str, ids: Json) -> Json:
    """What is required and whatever may name something; free values name a company, targets a registration."""
    if "properties" in schema or name == "":
        required = schema.get("required", [])
        parts = schema.get("properties", {}).items()
        return {each: fill(document, part, each, ids) for each, part in parts if each in required or is_name(each)}
    free = {"values": {"name": "x", "company_id": ids["id"]}, "deal": {"name": "x"}, "details": DETAILS}
    return {**free, "registrations": {str(ids["id"]): {}}}.get(name, {})


def is_name(field: str) -> bool:
    return "_id" in field or field in ("partnership", "ids", "registrations")


def named_in(request: Any, ids: Json) -> bool:
    """Whether a query or a body names any of these ids."""
    return any(str(each) in str(request) for each in ids.values())


async def test_every_route_answers_the_others_ids_with_not_found_or_nothing(trio: Trio) -> None:
    await live(trio)
    for name in ("deals", "shared_deals", "shared_notes", "comments", "products", "members", "quotes", "conflicts", "private_notes"):
        (least,) = (await trio.partners["Besta"].rows(text(f"SELECT min(id) FROM {name}")))[0]
        assert least == FIRST_ID, f"{name} begins with {least}"
    foreign, own = await ids_of(trio, "Besta", FIRST_ID), await ids_of(trio, "Acme", OWN_ID)
    secrets = await secrets_of(trio, "Besta") - {str(each) for each in foreign.values()}  # the one who asks named them
    token = await make_token(trio.partners["Acme"])
    nodes = [Node.of(side, token) for side in (trio.partners["Acme"], trio.partners["Besta"], trio.vendor)]
    themselves = Node.of(trio.partners["Besta"], await make_token(trio.partners["Besta"]))
    rows: dict[str, list[str]] = {}
    for route in nodes[0].list_routes():
        rows[route.name] = [*await try_at_home(nodes[0], route, foreign, own, secrets), "", "", ""]
    for place, node in enumerate(nodes[1:], start=2):
        for route in node.list_routes():
            row = rows.setdefault(route.name, [""] * 5)
            answer = await node.ask(route, foreign, foreign)
            row[place] = str(answer.status_code) if route.path not in OPEN else f"{answer.status_code}, no token"
            if route.path not in OPEN:
                assert answer.status_code == 401, f"{route.name}: {answer.status_code}"
                check_nothing_of(secrets, answer.text, route.name)
    for route in themselves.list_routes():
        if route.method == "GET" and "{" in route.path:
            rows[route.name][4] = str((await themselves.ask(route, foreign, foreign)).status_code)
    assert sum(row[4] == "200" for row in rows.values()) > 10, "the ids are of nothing"
    check_tries("Routes", [(name, *row) for name, row in rows.items()])
    for node in (*nodes, themselves):
        await node.client.aclose()


async def try_at_home(node: Node, route: Route, foreign: Json, own: Json, secrets: set[str]) -> Iterator[str]:
    """What Acme's node says to Besta's ids in the path, and to those elsewhere with its own in the path."""
    cells = ["", ""]
    tries = [(0, foreign)] if "{" in route.path else []
    for place, in_path in (*tries, (1, own)):
        rest = fill_rest(route, foreign)
        if place and tries and not named_in(rest, foreign):
            continue
        answer = await node.ask(route, in_path, foreign)
        where = f"{route.name}, {'elsewhere' if place else 'in the path'}: {answer.status_code} {answer.text}"
        names = not place or named_in(rest, foreign)
        cells[place] = str(answer.status_code) if names else f"{answer.status_code}, names none"
        if route.path not in OPEN:
            check_nothing_of(secrets, answer.text, where)
        assert place or answer.status_code == 404, where
        assert route.method != "GET" or not (place and names) or answer.json()["results"] == [], where
        word = SAID_INSIDE.get(route.name, "")
        assert route.method == "GET" or not names or answer.status_code >= 400 or (word and word in answer.text), where
        assert answer.status_code < 400 or answer.headers["content-type"] == "application/problem+json", where
        assert answer.status_code < 500, where
    return iter(cells)
