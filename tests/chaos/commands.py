"""Every command of both sides, as people use them: on what they were shown, often a while ago, often on the same deal as the other side."""

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

from shared_schema.contract.registers import Context, decode_token, encode_token
from tests.chaos.client_log import Written
from tests.chaos.person import FIELDS, Ask, Json, Person, Point

DETAILS = {"intro_note": "They know us.", "pain": "Spreadsheets.", "next_steps": "Demo on Monday."}
DECISIONS = ("approved", "under review", "action required", "rejected", "won", "lost", "revoked")
FIRST_DAY = date(2030, 1, 1)
SKUS = ("CRM", "ERP", "BI")
PARTS = {"note": "notes", "comment": "comments", "product": "products", "quote": "quotes", "member": "team"}
TEXTS = ("note", "comment")

Doing = Callable[[Person, Json], Awaitable[Ask | None] | Ask | None]


async def draw(person: Person) -> Ask | None:
    """What this person does next, if that is possible with what they see."""
    page = await person.open_page()
    if page is None:
        return register(person, {}) if person.side == "partner" else None
    doings = {doing: weight for side, weight, doing in DOINGS if side in ("", person.side)}
    (doing,) = person.random.choices(list(doings), weights=list(doings.values()))
    asked: Any = doing(person, page)
    return await asked if isinstance(asked, Awaitable) else asked


def of_deal(do: str, page: Json, path: str, body: Json | None, *points: Point) -> Ask:
    return Ask(do, "POST", f"/api/shared-deals/{page['id']}/{path}", body, points)


def register(person: Person, page: Json) -> Ask:
    """From a contact, from a company, or an existing deal; one whose sharing ended, too: then it is shared again."""
    points = (Point("deal", "name"), Point("registration_record", "submission"))
    road = person.random.choice(("contact", "company", "convert", "again"))
    deal = {"name": person.next_text("deal")}
    if road in ("contact", "company"):
        body = {f"{road}_id": person.random.randint(1, 6), "deal": deal, "details": DETAILS}
        return Ask(f"register from a {road}", "POST", f"/api/shared-deals/from-{road}", body, points)
    deal_id = page["deal_id"] if road == "again" and page else person.random.randint(1, 4)
    return Ask("convert or share again", "POST", "/api/shared-deals/convert", {"deal_id": deal_id, "details": DETAILS}, points)


def make_value(person: Person, field: str) -> Any:
    """A value that nobody else writes."""
    text, mine = person.next_text(field), person.side == "vendor"
    if field == "amount":
        return {"amount": str(2 * person.counted + mine), "currency": "EUR"}
    return (FIRST_DAY + timedelta(days=2 * person.counted + mine)).isoformat() if field == "close_date" else text


def token_of(page: Json, field: str) -> str:
    """What the page showed of a field; nothing, where nobody had written it."""
    shown = page["deal"]["fields"].get(field)
    return str(shown["seen"]) if shown else encode_token({})


def save(person: Person, page: Json) -> Ask | None:
    """One or two fields, from a page that was opened just now or a while ago."""
    if person.random.random() < 0.5:
        page = person.random.choice(list(person.pages))
    if page["deal"] is None:
        return None
    fields = person.random.sample(FIELDS, person.random.choice((1, 1, 2)))
    values = {field: make_value(person, field) for field in fields}
    seen = {field: token_of(page, field) for field in fields}
    written = tuple(Written(page["deal"]["uid"], field, values[field], decode_token(seen[field])) for field in fields)
    points = tuple(Point("deal", field) for field in fields)
    return Ask("save", "PATCH", f"/api/shared-deals/{page['id']}", {"values": values, "seen": seen}, points, written)


async def settle(person: Person, page: Json) -> Ask | None:
    """A conflict of a deal's field: keep, theirs, or another value."""
    open_ones = [each for each in await person.list("/api/conflicts?limit=200") if each["kind"] == "deal"]
    conflict = await person.read(f"/api/conflicts/{person.random.choice(open_ones)['id']}") if open_ones else None
    if conflict is None:
        return None
    choice = person.random.choice(("keep", "theirs", "edit"))
    body: Json = {"choice": choice, "seen": conflict["seen"]}
    value = make_value(person, conflict["field"]) if choice == "edit" else None
    if choice == "edit":
        body["values"] = {"value": value}
    seen: Context = decode_token(conflict["seen"])
    written = (Written(conflict["uid"], conflict["field"], value, dict(seen)),)
    return Ask("settle a conflict", "POST", f"/api/conflicts/{conflict['id']}/settle", body, (), written)


def add_note(person: Person, page: Json) -> Ask:
    return of_deal("add a note", page, "notes", {"body": person.next_text("note")}, Point("notes", "body"))


def pick(person: Person, page: Json, kinds: tuple[str, ...], *, own: bool = False) -> tuple[str, Json] | None:
    """One part of what is shown; this side's own, where only the author may."""
    found = [(kind, each) for kind in kinds for each in page[PARTS[kind]] if "id" in each and (not own or each["side"] == person.side)]
    return person.random.choice(found) if found else None


def add_comment(person: Person, page: Json) -> Ask | None:
    found = pick(person, page, ("note",))
    body = {"body": person.next_text("comment")}
    return Ask("comment", "POST", f"/api/notes/{found[1]['id']}/comments", body, (Point("comments", "body"),)) if found else None


def edit_text(person: Person, page: Json) -> Ask | None:
    found = pick(person, page, TEXTS, own=True)
    if found is None or "body" not in found[1]["fields"]:
        return None
    kind, text = found
    body = {"body": person.next_text(kind), "seen": text["fields"]["body"]["seen"]}
    return Ask(f"edit a {kind}", "PUT", f"/api/{kind}s/{text['id']}", body, (Point(PARTS[kind], "body", text["id"]),))


def delete_text(person: Person, page: Json) -> Ask | None:
    found = pick(person, page, TEXTS, own=True)
    if found is None:
        return None
    kind, text = found
    path, points = f"/api/{kind}s/{text['id']}", (Point(PARTS[kind], "life", text["id"]),)
    if text["state"] == "deleted":
        return Ask(f"restore a {kind}", "POST", f"{path}/restore", None, points)
    return Ask(f"delete a {kind}", "DELETE", path, None, points)


def erase(person: Person, page: Json) -> Ask | None:
    """Rarely a whole deal, else a note or a comment of one's own."""
    if person.random.random() < 0.2:
        return of_deal("erase a deal", page, "erase", None)
    found = pick(person, page, TEXTS, own=True)
    return Ask(f"erase a {found[0]}", "POST", f"/api/{found[0]}s/{found[1]['id']}/erase") if found else None


def add_private(person: Person, page: Json) -> Ask:
    text = f"secret-{person.next_text(person.side)}"
    return Ask("write a private note", "POST", f"/api/deals/{page['deal_id']}/private-notes", {"body": text}, private=text)


def put_product(person: Person, page: Json) -> Ask:
    body = {"sku": person.random.choice(SKUS), "quantity": str(person.random.randint(1, 99))}
    return of_deal("put a product", page, "products", body, Point("products", "quantity"))


def put_member(person: Person, page: Json) -> Ask:
    users = 3 if person.side == "vendor" else 1
    body = {"user_id": person.random.randint(1, users), "role": person.random.choice(("sales", "legal", "sponsor"))}
    return of_deal("put a team member", page, "team", body, Point("team", "role"))


def put_quote(person: Person, page: Json) -> Ask:
    values = {"number": person.next_text("Q"), "total": {"amount": "5", "currency": "EUR"}, "status": "sent"}
    return of_deal("add a quote", page, "quotes", {"values": values}, Point("quotes", "number"))


def remove_line(person: Person, page: Json) -> Ask | None:
    kinds = ("product", "quote", "member") if person.side == "vendor" else ("product", "member")
    found = pick(person, page, kinds)
    if found is None or (found[0] == "member" and found[1]["side"] != person.side):
        return None
    kind, line = found
    plural = "team" if kind == "member" else f"{kind}s"
    return Ask(f"remove a {kind}", "DELETE", f"/api/{plural}/{line['id']}", None, (Point(PARTS[kind], "life", line["id"]),))


def put_eligibility(person: Person, page: Json) -> Ask:
    values = {"eligible": True, "rate": str(person.random.randint(1, 30))}
    path = f"/api/shared-deals/{page['id']}/eligibility"
    return Ask("put eligibility", "PUT", path, {"values": values}, (Point("eligibility", "rate"),))


def delete_deal(person: Person, page: Json) -> Ask:
    """With what the page showed, so that it may be contested; what is deleted or contested is restored, or deleted anyway."""
    point = Point("deal", "life")
    if page["state"] == "alive" and page["deal"]:
        shown = {name: field["seen"] for name, field in page["deal"]["fields"].items()} | {"life": page["deal"]["life_seen"]}
        return of_deal("delete a deal", page, "delete-for-both", {"seen": shown}, point)
    what = "delete-anyway" if page["state"] == "contested" and person.random.random() < 0.3 else "restore"
    return of_deal(f"{what} a deal", page, what, None, point)


def end(person: Person, page: Json) -> Ask:
    """What ends a registration, or nearly."""
    what = person.random.choice(("unshare", "leave", "withdraw" if person.side == "partner" else "leave"))
    field = {"unshare": "unshared", "leave": f"{person.side}_left", "withdraw": "withdrawal"}[what]
    body = {"reason": "no interest"} if what == "withdraw" else None
    return of_deal(what, page, what, body, Point("registration_record", field))


def come_back(person: Person, page: Json) -> Ask:
    return of_deal("come back", page, "come-back", None)


async def restore_from_trash(person: Person, page: Json) -> Ask | None:
    found = await person.list("/api/trash?limit=200")
    return Ask("restore from the trash", "POST", f"/api/trash/{person.random.choice(found)['id']}/restore") if found else None


def merge(person: Person, page: Json) -> Ask | None:
    other = person.random.choice(list(person.pages))["deal_id"]
    return Ask("merge deals", "POST", f"/api/deals/{page['deal_id']}/merge", {"deal_id": other}) if other != page["deal_id"] else None


def take_over(person: Person, page: Json) -> Ask:
    return of_deal("take over", page, "take-over", {})


def verify(person: Person, page: Json) -> Ask:
    return Ask("verify", "POST", f"/api/partnerships/{page['partnership']}/verify", {"repair": False})


def rename(person: Person, page: Json) -> Ask:
    return Ask("rename a user", "PATCH", "/api/users/1", {"name": person.next_text("name")})


def submit(person: Person, page: Json) -> Ask:
    """The partner's answer to what the vendor asked, or to an invitation."""
    if page["status"] == "invited":
        said = person.random.choice(("accepted", "accepted", "declined"))
        return of_deal("answer an invitation", page, "answer", {"answer": said}, Point("registration_record", "answer"))
    return of_deal("submit again", page, "submit", DETAILS, Point("registration_record", "submission"))


def decide(person: Person, page: Json) -> Ask:
    weights = [8, 2, 2, 0.3, 0.3, 0.3, 0.3]
    (decision,) = person.random.choices(DECISIONS, weights=weights)
    body = {"decision": decision, "reason": "so we think"}
    return of_deal("decide", page, "decision", body, Point("registration_record", "decision"))


def assign(person: Person, page: Json) -> Ask:
    if person.random.random() < 0.5:
        return of_deal("accept an assignment", page, "accept", None)
    return of_deal("assign a rep", page, "assign", {"rep_id": person.random.choice((2, 3))}, Point("registration_record", "rep"))


def invite(person: Person, page: Json) -> Ask:
    body = {"intro_note": "Join us.", "confirmed": True}
    points = (Point("registration_record", "invitation"),)
    deal_id = person.random.choice((page["deal_id"], person.random.randint(1, 4)))
    return Ask("bring a partner in", "POST", f"/api/deals/{deal_id}/invite", body, points)


def change_policy(person: Person, page: Json) -> Ask:
    terms = {"approval": person.random.choice(("auto", "auto", "manual"))}
    return Ask("change the policy", "PUT", f"/api/partnerships/{page['partnership']}/policy", {"terms": terms})


# Who (empty: both), how often, what.
DOINGS: tuple[tuple[str, float, Doing], ...] = (
    ("", 30, save),
    ("", 6, settle),
    ("", 8, add_note),
    ("", 6, add_comment),
    ("", 5, edit_text),
    ("", 4, delete_text),
    ("", 4, add_private),
    ("", 5, put_product),
    ("", 2, put_member),
    ("", 3, remove_line),
    ("", 5, delete_deal),
    ("", 1, end),
    ("", 0.5, come_back),
    ("", 1, restore_from_trash),
    ("", 0.5, merge),
    ("", 1, take_over),
    ("", 0.5, verify),
    ("", 0.5, rename),
    ("", 0.4, erase),
    ("partner", 6, register),
    ("partner", 3, submit),
    ("vendor", 4, decide),
    ("vendor", 3, assign),
    ("vendor", 3, put_quote),
    ("vendor", 2, put_eligibility),
    ("vendor", 1, invite),
    ("vendor", 0.3, change_policy),
)
