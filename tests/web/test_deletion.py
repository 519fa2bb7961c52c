"""Deleting by the API: the trash, erasures and the brake, and who may do what."""

from tests.web.conftest import Api
from tests.web.test_api import refused, share


def test_what_is_deleted_is_in_the_trash_and_comes_back(partner: Api) -> None:
    share(partner)
    partner.post("/api/shared-deals/1/delete-for-both", 200)
    (row,) = partner.get("/api/trash")["results"]
    assert (row["kind"], row["title"], row["shared_deal_id"]) == ("deal", "Roll-out", 1)
    partner.post(f"/api/trash/{row['id']}/restore", 200)
    assert partner.get("/api/trash")["results"] == []
    assert "list" in refused(partner, "POST", f"/api/trash/{row['id']}/restore", 404)["remedy"]
    partner.post("/api/shared-deals/1/leave", 200)
    assert partner.get("/api/deals")["results"] == []
    partner.post("/api/shared-deals/1/come-back", 200)
    assert len(partner.get("/api/deals")["results"]) == 1
    refused(partner, "POST", "/api/shared-deals/1/come-back", 409)


def test_an_erasure_is_an_admins_and_is_stated(partner: Api) -> None:
    share(partner)
    note = partner.post("/api/shared-deals/1/notes", body="a secret")["id"]
    rep = partner.post("/api/users", name="Rita", email="rita@acme.example")
    token = partner.post("/api/tokens", user_id=rep["id"], name="t")["token"]
    other = {"Authorization": f"Bearer {token}"}
    for path in ("/api/shared-deals/1/erase", "/api/contacts/1/erase", f"/api/notes/{note}/erase"):
        assert partner.client.post(path, headers=other).status_code == 403
    partner.post(f"/api/notes/{note}/erase", 202)
    assert "erased" in refused(partner, "POST", f"/api/notes/{note}/erase", 409)["detail"]
    assert "erased" in refused(partner, "POST", f"/api/notes/{note}/comments", 409, body="nothing is below what is erased")["detail"]
    partner.post("/api/contacts/1/erase", 202)
    assert (partner.get("/api/contacts/1")["name"], partner.get("/api/contacts/1")["email"]) == ("(erased)", None)
    partner.post("/api/shared-deals/1/erase", 202)
    listed = partner.get("/api/erasures")["results"]
    assert [(each["kind"], each["fields"]) for each in listed] == [
        ("note", ""),
        ("registration", "contact"),
        ("contact", ""),
        ("registration", ""),
    ]
    assert {each["state"] for each in listed} == {"on its way", "being cleaned up"} and not any(each["gone_by"] for each in listed)
    assert partner.get(f"/api/erasures/{listed[0]['id']}") == listed[0]
    refused(partner, "GET", "/api/erasures/99", 404)
    shown = partner.get("/api/shared-deals/1")
    assert (shown["status"], shown["state"], "secret" in str(shown)) == ("erased", "erased", False)
    for path in ("delete-for-both", "unshare", "notes"):
        refused(partner, "POST", f"/api/shared-deals/1/{path}", 409, **({"body": "x"} if path == "notes" else {}))


def test_the_brake_is_shown_and_moved_by_an_admin_alone(partner: Api) -> None:
    share(partner)
    for number in range(6):
        partner.post("/api/shared-deals/1/notes", body=f"note {number}")
    for note in range(1, 7):
        partner.ask("DELETE", f"/api/notes/{note}", 200)
    (held,) = partner.get("/api/brake")["results"]
    assert partner.get("/api/brake?limit=1")["held"] == {"out": {"records": 1, "events": 1}, "in": {"records": 0, "events": 0}}
    assert partner.get(f"/api/brake?after={held['id']}")["results"] == []
    assert (held["direction"], held["act"], held["kind"]) == ("out", "deleted", "note")
    path = f"/api/partnerships/{held['partnership']}/brake"
    refused(partner, "POST", f"{path}/release", 409, direction="in")
    refused(partner, "POST", f"{path}/release", 422, direction="up")
    refused(partner, "POST", "/api/partnerships/nobody/brake/drop", 404, direction="out")
    assert partner.post(f"{path}/drop", 200, direction="out") == {"taken back": 1, "still held": 0}
    assert partner.get("/api/brake")["results"] == []
    states = [each["state"] for each in partner.get("/api/shared-deals/1")["notes"]]
    assert (states.count("deleted"), states.count("alive")) == (5, 1)


def test_companies_and_contacts_are_merged(partner: Api) -> None:
    ids = [partner.post("/api/companies", name=name)["id"] for name in ("Globex", "Globex GmbH")]
    people = [partner.post("/api/contacts", name=name, company_id=ids[1])["id"] for name in ("Hank", "Hank S.")]
    assert partner.post(f"/api/companies/{ids[0]}/merge", 200, company_id=ids[1])["name"] == "Globex"
    assert partner.post(f"/api/contacts/{people[0]}/merge", 200, contact_id=people[1])["company_id"] == ids[0]
    assert partner.get(f"/api/companies/{ids[1]}")["id"] == ids[0]
    assert len(partner.get("/api/contacts")["results"]) == 1
    refused(partner, "POST", f"/api/companies/{ids[0]}/merge", 422, company_id=ids[1])
