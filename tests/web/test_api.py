"""The API as programs use it: what a read returns, what a write tells, and what each mistake is answered with."""

import httpx
import pytest
from sqlalchemy import delete

from shared_schema.contract.registers import CONTEXT_MAX, encode_token
from shared_schema.crm.database import Database
from shared_schema.crm.tables import shared_records
from tests.web.conftest import BUNDLE, Api

DETAILS = {"intro_note": "They know us.", "pain": "Spreadsheets.", "next_steps": "Demo on Monday."}


def share(api: Api, **more: object) -> dict:
    company = api.post("/api/companies", name="Globex", domain="https://www.globex.example/de", country="DE")
    contact = api.post("/api/contacts", name="Hank", email="Hank@Globex.example", phone="+49 30 901820", company_id=company["id"])
    body = {
        "contact_id": contact["id"],
        "deal": {"name": "Roll-out", "amount": {"amount": "100.50", "currency": "EUR"}},
        "details": DETAILS,
    }
    return api.post("/api/shared-deals/from-contact", **(body | more))


def refused(api: Api, method: str, path: str, status: int, **body: object) -> dict:
    answer = api.client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["detail"]
    return problem


def test_a_deal_shared_from_a_contact_reads_with_tokens_and_sync_states(partner: Api) -> None:
    made = share(partner)
    deal = made["shared_deal"]["deal"]
    assert deal["fields"]["amount"]["value"] == {"amount": "100.5", "currency": "EUR"}
    assert deal["fields"]["amount"]["sync"] == "pending"
    assert made["shared_deal"]["peer"] == "Initech"
    saved = partner.ask(
        "PATCH", "/api/shared-deals/1", 200, json={"values": {"next_step": "Call"}, "seen": {"next_step": deal["fields"]["name"]["seen"]}}
    )
    assert saved["outcomes"] == [
        {"field": "next_step", "result": "written", "registration": 1, "seen": saved["shared_deal"]["deal"]["fields"]["next_step"]["seen"]}
    ]
    listed = partner.get("/api/deals?shared=true")["results"]
    assert [(each["name"], each["next_step"], each["number_of_deal_registrations"]) for each in listed] == [("Roll-out", "Call", 1)]
    assert partner.get("/api/contacts/1")["phone"] == "+4930901820"


def test_converting_a_deal_names_what_is_missing_and_where_to_add_it(partner: Api) -> None:
    company = partner.post("/api/companies", name="Umbrella")
    partner.post("/api/deals", values={"name": "Labs", "company_id": company["id"]})
    problem = refused(partner, "POST", "/api/shared-deals/convert", 409, deal_id=1, details=DETAILS)
    assert (problem["field"], problem["link"]) == ("contact_ids", "/api/deals/1")
    assert "add a contact" in problem["remedy"]
    contact = partner.post("/api/contacts", name="Alice", email="alice@umbrella.example", company_id=company["id"])
    partner.ask("PATCH", "/api/deals/1", 200, json={"values": {"contact_ids": [contact["id"]]}})
    assert partner.post("/api/shared-deals/convert", deal_id=1, details=DETAILS)["shared_deal"]["status"] == "submitted"
    assert refused(partner, "POST", "/api/shared-deals/convert", 409, deal_id=1, details=DETAILS)["link"] == "/api/shared-deals/1"


def test_the_capacity_limit_holds_and_nothing_is_half_done(partner: Api) -> None:
    for _ in range(3):
        share(partner)
    before = len(partner.get("/api/deals")["results"])
    company = {"company_id": 1, "deal": {"name": "One too many"}, "details": DETAILS}
    assert "at most 3" in refused(partner, "POST", "/api/shared-deals/from-company", 409, **company)["detail"]
    assert len(partner.get("/api/deals")["results"]) == before


@pytest.mark.parametrize("missing", sorted(DETAILS))
def test_each_part_of_the_qualifying_information_is_required(partner: Api, missing: str) -> None:
    company = partner.post("/api/companies", name="Globex")
    body = {"company_id": company["id"], "deal": {"name": "Roll-out"}, "details": DETAILS | {missing: " <p></p> "}}
    assert refused(partner, "POST", "/api/shared-deals/from-company", 422, **body)["field"] == missing
    assert partner.get("/api/deals")["results"] == []


def test_a_deal_shows_what_each_registration_says_and_a_save_names_where_it_goes(partner: Api) -> None:
    share(partner)
    kept = partner.ask("PATCH", "/api/deals/1", 200, json={"values": {"next_step": "ours alone"}, "registrations": {}})
    assert [(each["field"], each["registration"]) for each in kept["outcomes"]] == [("next_step", None)]
    (said,) = partner.get("/api/deals/1")["registrations"]
    assert (said["id"], said["peer"], said["status"], said["differs"]) == (1, "Initech", "submitted", ["next_step"])
    assert "name" in said["follows"] and said["fields"]["next_step"]["value"] is None
    named = {"1": {"next_step": said["fields"]["next_step"]["seen"]}}
    saved = partner.ask("PATCH", "/api/deals/1", 200, json={"values": {"next_step": "for both"}, "registrations": named})
    assert [(each["registration"], each["result"]) for each in saved["outcomes"]] == [(None, "written"), (1, "written")]
    assert saved["deal"]["registrations"][0]["differs"] == []
    problem = refused(partner, "PATCH", "/api/deals/1", 422, values={"next_step": "x"}, registrations={"2": {}})
    assert problem["field"] == "registrations" and "names 2" in problem["detail"]
    partner.ask("PATCH", "/api/deals/1", 200, json={"values": {"next_step": "mine again"}, "registrations": {}})
    taken = partner.post("/api/shared-deals/1/take-over", 200, fields=["next_step"])
    assert taken["deal"]["next_step"] == "for both" and taken["deal"]["registrations"][0]["differs"] == []
    assert refused(partner, "POST", "/api/shared-deals/1/take-over", 422, fields=["stage"])["field"] == "fields"
    assert refused(partner, "POST", "/api/shared-deals/1/answer", 409, answer="accepted")["field"] == "answer"


def test_the_vendor_brings_a_partner_in_once_it_was_asked(vendor: Api) -> None:
    partnership = vendor.post("/api/partners/invite", own_name="Initech", peer_name="Acme")["bundle"]["partnership"]
    company = vendor.post("/api/companies", name="Globex", domain="globex.example")
    contact = vendor.post("/api/contacts", name="Hank", email="hank@globex.example", company_id=company["id"])
    vendor.post("/api/deals", values={"name": "Depots", "company_id": company["id"]})
    body = {"partnership": "Acme", "intro_note": "Would you?", "confirmed": True}
    assert refused(vendor, "POST", "/api/deals/1/invite", 409, **body)["field"] == "contact_ids"
    vendor.ask("PATCH", "/api/deals/1", 200, json={"values": {"contact_ids": [contact["id"]]}})
    assert refused(vendor, "POST", "/api/deals/1/invite", 422, **body | {"confirmed": False})["field"] == "confirmed"
    assert refused(vendor, "POST", "/api/deals/1/invite", 422, **body, contact_id=9)["link"] == f"/api/partnerships/{partnership}/people"
    made = vendor.post("/api/deals/1/invite", **body)["shared_deal"]
    assert (made["status"], made["registration_record"]["fields"]["intro_note"]["value"]) == ("invited", "Would you?")
    assert vendor.get(f"/api/partnerships/{partnership}/people")["results"] == []
    similar = vendor.get("/api/shared-deals/1/similar")
    assert (similar["registrations"], similar["owned"], similar["this"]["deal"]["name"]) == ([], [], "Depots")
    assert [each["status"] for each in vendor.get("/api/deals/1")["registrations"]] == ["invited"]


def test_derived_properties_can_not_be_set(partner: Api) -> None:
    share(partner)
    problem = refused(partner, "PATCH", "/api/deals/1", 422, values={"is_active_shared_deal": True})
    assert problem["field"] == "is_active_shared_deal" and "derived" in problem["detail"]


def test_a_token_of_what_very_many_incarnations_wrote_comes_back_with_the_edit(partner: Api) -> None:
    share(partner)
    note = partner.post("/api/shared-deals/1/notes", body="Hello")
    token = encode_token({f"p-{place:016x}": 2**53 for place in range(CONTEXT_MAX)})
    edited = partner.ask("PUT", f"/api/notes/{note['id']}", 200, json={"body": "Changed", "seen": token})
    assert edited["shared_deal"]["notes"][0]["fields"]["body"]["value"] == "Changed"


def test_notes_comments_and_private_notes(partner: Api) -> None:
    share(partner)
    note = partner.post("/api/shared-deals/1/notes", body="<p>Hello <script>x()</script></p>")
    assert note["shared_deal"]["notes"][0]["fields"]["body"]["value"] == "<p>Hello </p>"
    partner.post(f"/api/notes/{note['id']}/comments", body="And hello again")
    partner.ask("PUT", f"/api/notes/{note['id']}", 200, json={"body": "Changed"})
    deleted = partner.ask("DELETE", f"/api/notes/{note['id']}", 200)
    assert deleted["shared_deal"]["notes"][0]["state"] == "deleted"
    restored = partner.ask("POST", f"/api/notes/{note['id']}/restore", 200)
    assert restored["shared_deal"]["notes"][0]["state"] == "alive"
    private = partner.post("/api/deals/1/private-notes", body="Between us")
    assert private["results"][0]["body"] == "Between us"
    assert "Between us" not in str(partner.get("/api/shared-deals/1"))
    partner.ask("DELETE", f"/api/private-notes/{private['id']}", 204)


def test_a_stale_token_makes_a_conflict_that_is_listed_and_settled(partner: Api) -> None:
    shown = share(partner)["shared_deal"]["deal"]["fields"]["name"]["seen"]
    for name in ("Roll-out A", "Roll-out B"):
        saved = partner.ask("PATCH", "/api/shared-deals/1", 200, json={"values": {"name": name}, "seen": {"name": shown}})
    assert saved["outcomes"][0]["result"] == "conflict"
    (conflict,) = partner.get("/api/conflicts")["results"]
    told = partner.get(f"/api/conflicts/{conflict['id']}")
    assert (told["base"], {each["value"] for each in told["values"]}) == ("Roll-out", {"Roll-out A", "Roll-out B"})
    body = {"choice": "edit", "values": {"value": "Roll-out C"}, "seen": told["seen"]}
    partner.ask("POST", f"/api/conflicts/{conflict['id']}/settle", 200, json=body)
    assert partner.get("/api/conflicts")["results"] == []


def test_deleting_restoring_and_unsharing(partner: Api) -> None:
    share(partner)
    assert partner.ask("POST", "/api/shared-deals/1/delete-for-both", 200, json={})["shared_deal"]["state"] == "deleted"
    assert partner.get("/api/deals")["results"] == []
    assert partner.ask("POST", "/api/shared-deals/1/restore", 200)["shared_deal"]["state"] == "alive"
    assert partner.ask("POST", "/api/shared-deals/1/unshare", 200)["shared_deal"]["status"] == "unshared"
    assert refused(partner, "POST", "/api/shared-deals/1/notes", 409, body="too late")["remedy"].startswith("share it again")


def test_only_a_token_of_this_node_comes_in(partner: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer dbt_wrong"}, {"Authorization": "Basic x"}):
        answer = httpx.get(partner.url + "/api/deals", headers=headers)
        assert answer.status_code == 401 and answer.json()["title"] == "Unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_reps_may_not_do_what_admins_do(partner: Api) -> None:
    user = partner.post("/api/users", name="Ron", email="ron@acme.example")
    token = partner.post("/api/tokens", user_id=user["id"], name="his")["token"]
    answer = httpx.get(partner.url + "/api/tokens", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403 and answer.json()["remedy"]
    assert httpx.get(partner.url + "/api/me", headers={"Authorization": f"Bearer {token}"}).json()["name"] == "Ron"
    partner.ask("DELETE", "/api/tokens/2", 204)
    assert httpx.get(partner.url + "/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "/api/shared-deals/99", {}, 404, "shared_deal"),
        ("GET", "/api/nothing", {}, 404, None),
        ("PUT", "/api/deals", {}, 405, None),
        ("POST", "/api/companies", {"name": "a\x00b"}, 422, "name"),
        ("POST", "/api/companies", {"name": "a", "domain": "no domain"}, 422, "domain"),
        ("POST", "/api/companies", {"name": "a", "surprise": 1}, 422, "surprise"),
        ("POST", "/api/contacts", {"name": "a", "phone": "12"}, 422, "phone"),
        ("POST", "/api/contacts", {"name": "a", "company_id": 77}, 404, "company"),
        ("POST", "/api/deals", {"values": {"name": "a", "amount": {"amount": 1.5, "currency": "EUR"}}}, 422, "amount"),
        ("POST", "/api/deals", {"values": {"name": "a", "stage": "Nowhere"}}, 422, "stage"),
        ("POST", "/api/partnerships/join", {"bundle": {"format": "x"}}, 422, "bundle"),
        ("POST", "/api/users", {"name": "x", "email": "ada@acme.example"}, 422, "email"),
    ],
)
def test_each_mistake_gets_one_clear_error(partner: Api, method: str, path: str, body: dict, status: int, field: str | None) -> None:
    problem = refused(partner, method, path, status, **body)
    assert problem.get("field") == field


def test_dead_letters_and_refusals_are_an_admins(partner: Api) -> None:
    assert partner.get("/api/dead-letters") == {"results": [], "after": None}
    assert partner.get("/api/refusals")["results"] == []
    assert partner.post("/api/dead-letters/replay", 200, ids=[7])["results"] == [
        {"id": 7, "result": "gone", "reason": None, "partnership": None}
    ]
    assert refused(partner, "POST", "/api/dead-letters/replay", 422)["field"] == "ids"
    assert refused(partner, "GET", "/api/dead-letters/7", 404)["field"] == "dead_letter"
    assert refused(partner, "POST", "/api/dead-letters/7/discard", 404, reason="x")["field"] == "dead_letter"
    assert refused(partner, "POST", "/api/dead-letters/7/discard", 422)["field"] == "reason"
    assert refused(partner, "POST", "/api/partnerships/nobody/resume", 404)["field"] == "partnership"
    running = partner.get("/api/partnerships")["results"][0]["id"]
    assert refused(partner, "POST", f"/api/partnerships/{running}/resume", 409)["remedy"]
    user = partner.post("/api/users", name="Ron", email="ron2@acme.example")
    token = partner.post("/api/tokens", user_id=user["id"], name="his")["token"]
    for path in ("/api/dead-letters", "/api/dead-letters/7", "/api/refusals"):
        assert httpx.get(partner.url + path, headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_an_admin_says_once_that_the_store_was_put_back(partner: Api) -> None:
    (joined,) = partner.get("/api/partnerships")["results"]
    user = partner.post("/api/users", name="Ron", email="ron3@acme.example")
    token = partner.post("/api/tokens", user_id=user["id"], name="his")["token"]
    assert httpx.post(f"{partner.url}/api/restoration", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    assert partner.post("/api/restoration", 202) == {"partnerships": [joined["id"]]}
    assert refused(partner, "POST", "/api/restoration", 409)["remedy"] == "see `status` for what is being restored already"
    assert partner.get(f"/api/partnerships/{joined['id']}/journal")["results"][-1]["what"] == "restore confirmed"
    assert "says so" in partner.get("/api/status")["results"][0]["restoring_because"]


def test_a_damaged_token_is_refused_and_an_oversized_body_too(partner: Api) -> None:
    share(partner)
    problem = refused(partner, "PATCH", "/api/shared-deals/1", 422, values={"name": "x"}, seen={"name": "s1.!!!"})
    assert problem["field"] == "seen"
    assert partner.client.post("/api/companies", content=b"x" * 1_100_000).status_code == 413
    assert partner.client.post("/api/companies", content=(b"x" * 65_536 for _ in range(20))).status_code == 413


def test_a_view_of_deals_is_saved_listed_and_used(partner: Api) -> None:
    share(partner)
    partner.post("/api/deals", values={"name": "Not shared", "properties": {"region": "North"}})
    assert partner.get("/api/deals?view=0") == partner.get("/api/deals?shared=true") != partner.get("/api/deals")
    north = partner.post("/api/views", name="North", conditions=[{"property": "properties.region", "operator": "equals", "value": "North"}])
    assert [each["name"] for each in partner.get(f"/api/deals?view={north['id']}")["results"]] == ["Not shared"]
    partner.ask("PATCH", f"/api/views/{north['id']}", 200, json={"name": "The north"})
    assert [each["name"] for each in partner.get("/api/views")["results"]] == ["Shared deals", "The north"]
    assert refused(partner, "POST", "/api/views", 422, name="x", conditions=[{"property": "x", "operator": "known"}])["field"] == "property"
    partner.ask("DELETE", f"/api/views/{north['id']}", 204)
    assert refused(partner, "GET", f"/api/deals?view={north['id']}", 404)["field"] == "view"


def test_the_vendor_invites_and_keeps_reps_quotes_and_policy(vendor: Api) -> None:
    made = vendor.post("/api/partners/invite", own_name="Initech", peer_name="Acme", terms={"approval": "manual"})
    assert made["complete"] and made["bundle"]["policy"]["approval"] == "manual" and len(made["bundle"]["topics"]) == 4
    vendor.post("/api/reps", user_id=1, values={"weight": 2, "territories": ["DE"]})
    vendor.ask("PATCH", "/api/reps/1", 200, json={"values": {"out_from": "2026-12-24", "out_until": "2027-01-02"}})
    assert vendor.get("/api/reps")["results"][0]["territories"] == ["DE"]
    assert refused(vendor, "PATCH", "/api/reps/1", 422, values={"weight": -1})["field"] == "weight"
    assert refused(vendor, "PUT", "/api/shared-deals/9/eligibility", 404, values={"eligible": True})["field"] == "shared_deal"
    partnership = made["bundle"]["partnership"]
    assert vendor.get("/api/status")["results"][0]["backlog"] == 1
    vendor.ask("PUT", f"/api/partnerships/{partnership}/policy", 200, json={"terms": {"capacity": 5}})
    assert refused(vendor, "PUT", f"/api/partnerships/{partnership}/policy", 422, terms={"preset": "x"})["field"] == "preset"


def test_a_partner_is_suspended_resumed_and_revoked_where_the_broker_has_no_users_and_that_is_said(vendor: Api) -> None:
    partnership = vendor.post("/api/partners/invite", own_name="Initech", peer_name="Acme")["partnership"]
    for act, status in (
        ("suspend", "suspended"),
        ("suspend", "suspended"),
        ("resume", "active"),
        ("topics", "active"),
        ("retire", "active"),
    ):
        done = vendor.ask("POST", f"/api/partners/{partnership}/{act}", 200)
        assert done["status"] == status and (act == "topics" or "no users" in done["remedy"])
    rotated = vendor.post(f"/api/partners/{partnership}/rotate", 200, broker="kafka.initech.example:9093")
    assert rotated["bundle"]["broker"] == "kafka.initech.example:9093" and "credential" not in rotated["bundle"]
    vendor.ask("POST", f"/api/partners/{partnership}/suspend", 200)
    assert "resume" in refused(vendor, "POST", f"/api/partners/{partnership}/rotate", 409)["remedy"]
    assert "resume" in str(refused(vendor, "POST", f"/api/partners/{partnership}/topics", 409)["remedy"])
    assert vendor.ask("POST", f"/api/partners/{partnership}/revoke", 200)["status"] == "terminated"
    assert "anew" in refused(vendor, "POST", f"/api/partners/{partnership}/resume", 409)["remedy"]
    assert vendor.get("/api/partnerships")["results"][0]["status"] == "terminated"
    assert refused(vendor, "POST", "/api/partners/nobody/suspend", 404)["field"] == "partnership"
    journal = vendor.get(f"/api/partnerships/{partnership}/journal")["results"]
    assert [line["what"] for line in journal] == [f"partner {done}" for done in ("invited", "suspended", "resumed", "suspended", "revoked")]
    assert {line["actor"] for line in journal} == {"Ada"}


def test_a_bundle_with_a_credential_needs_a_place_for_it_and_a_ca_that_is_one(partner: Api) -> None:
    bundle = {**BUNDLE, "security": "sasl_tls", "ca": None, "credential": {"user": "acme.1", "password": "x"}}
    assert "DEALBRIDGE_SECRETS" in str(refused(partner, "POST", "/api/partnerships/join", 409, bundle=bundle)["remedy"])
    for wrong in ({"security": "telnet"}, {"credential": None}, {"credential": {"user": "acme.1"}}, {"ca": 7}):
        assert refused(partner, "POST", "/api/partnerships/join", 422, bundle={**bundle, **wrong})["field"] == "bundle"


def test_health_metrics_and_the_schema_need_no_token(vendor: Api) -> None:
    assert httpx.get(vendor.url + "/healthz").text == "ok\n"
    assert httpx.get(vendor.url + "/readyz").text == "ready\n"
    assert "dealbridge_build_info" in httpx.get(vendor.url + "/metrics").text
    assert httpx.get(vendor.url + "/openapi.json").json()["openapi"].startswith("3.")


async def test_of_a_registration_whose_deal_has_not_come_yet_everything_else_works(partner: Api, database_url: str) -> None:
    """As while a store that was put back gets its records from the peer."""
    share(partner)
    database = Database(database_url)
    async with database.transaction() as tx:
        await tx.execute(delete(shared_records).where(shared_records.c.kind == "deal"))
    await database.close()
    for method, path, body in (
        ("PATCH", "", {"values": {"name": "renamed"}}),
        ("POST", "/delete-for-both", {"seen": {}}),
        ("POST", "/restore", {}),
        ("POST", "/delete-anyway", {}),
        ("POST", "/take-over", {}),
    ):
        problem = refused(partner, method, f"/api/shared-deals/1{path}", 409, **body)
        assert problem["remedy"] == "wait until the rest of it has arrived", path
    assert partner.get("/api/shared-deals/1")["deal"] is None
    partner.post("/api/shared-deals/1/notes", body="said meanwhile")
    for path, status in {"leave": "submitted", "come-back": "submitted", "unshare": "unshared"}.items():
        assert partner.post(f"/api/shared-deals/1/{path}", 200)["shared_deal"]["status"] == status
