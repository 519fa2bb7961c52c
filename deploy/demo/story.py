"""The story that the demo tells: what each side does, what the other sees, and whether it has it yet."""

import time
from collections.abc import Callable
from typing import Any

import httpx
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

Json = dict[str, Any]
WAIT_S = 60
DETAILS = {
    "intro_note": "We have advised them for three years and know the board.",
    "pain": "Their deals live in spreadsheets; nobody sees the whole pipeline.",
    "next_steps": "A workshop with both of us next week.",
}


class StoryFailed(RuntimeError):
    """Something that the story waits for did not happen."""


class Story:
    """Two people, each at their own node."""

    def __init__(self, console: Console, partner: httpx.Client, vendor: httpx.Client) -> None:
        self.console = console
        self.partner = partner
        self.vendor = vendor
        self.pairs: dict[int, int] = {}

    def tell(self) -> None:
        for chapter in (self.share, self.explain, self.talk, self.watch_states, self.collide, self.contest, self.show_both):
            chapter()

    def say(self, text: str) -> None:
        self.console.print(text)

    def chapter(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def share(self) -> None:
        self.chapter("Paula registers three deals with Initech")
        from_contact = {"contact_id": 1, "deal": {"name": "Globex Energie: Analytics add-on", "amount": money("18000")}, "details": DETAILS}
        from_company = {"company_id": 3, "deal": {"name": "Alpina Uhren: Service desk", "amount": money("26000")}, "details": DETAILS}
        wanted = {"deal_id": 8, "details": DETAILS | {"products": [{"sku": "FIELD-SVC", "name": "Field Service", "quantity": "25"}]}}
        asked = (("contact", "a contact", from_contact), ("company", "a company", from_company), ("convert", "an existing deal", wanted))
        for road, words, body in asked:
            path = "convert" if road == "convert" else f"from-{road}"
            made = post(self.partner, f"/api/shared-deals/{path}", body)
            self.say(f"  from {words}: [cyan]{made['shared_deal']['deal']['fields']['name']['value']}[/] → {made['shared_deal']['status']}")
        await_that("the deals are active on both sides", lambda: self.count_active(self.partner) == self.count_active(self.vendor) == 3)
        await_that("every deal has a rep", lambda: all(each["rep_person"] for each in results(self.partner, "/api/shared-deals")))
        there = {each["registration"]: each["id"] for each in results(self.vendor, "/api/shared-deals")}
        self.pairs = {each["id"]: there[each["registration"]] for each in results(self.partner, "/api/shared-deals")}
        self.say("  They appear in Initech's CRM by themselves, with company and contact, approved by policy and assigned.")

    def count_active(self, client: httpx.Client) -> int:
        return len(results(client, "/api/shared-deals?status=active"))

    def explain(self) -> None:
        self.chapter("Who was assigned at Initech, and why")
        names = {each["id"]: each["name"] for each in results(self.vendor, "/api/reps")}
        for here, there in self.pairs.items():
            (assignment,) = results(self.vendor, f"/api/shared-deals/{there}/assignments")
            told = assignment["explanation"]
            deal = get(self.partner, f"/api/shared-deals/{here}")["deal"]["fields"]["name"]["value"]
            self.say(f"  [cyan]{deal}[/] → [bold]{names[assignment['rep_id']]}[/]: {told['steps'][-1]['why']}")
            for each in told["considered"]:
                if each["passed_over"] and assignment["method"] in ("territory", "round_robin"):
                    self.say(f"     [dim]{each['name']} was passed over: {each['passed_over']}[/]")

    def talk(self) -> None:
        self.chapter("Both sides talk; private notes stay private")
        here = next(iter(self.pairs))
        note = post(self.partner, f"/api/shared-deals/{here}/notes", {"body": "<p>The CFO wants a <b>fixed price</b>.</p>"})
        post(self.partner, "/api/deals/1/private-notes", {"body": "Our margin here is 22 %."})
        there = self.pairs[here]
        await_that("the note is at Initech", lambda: bool(get(self.vendor, f"/api/shared-deals/{there}")["notes"]))
        theirs = get(self.vendor, f"/api/shared-deals/{there}")["notes"][0]
        post(self.vendor, f"/api/notes/{theirs['id']}/comments", {"body": "We can do that for 36 months."})
        await_that("the comment is back", lambda: bool(get(self.partner, f"/api/shared-deals/{here}")["comments"]))
        comment = get(self.partner, f"/api/shared-deals/{here}")["comments"][0]["fields"]["body"]
        self.say(f"  Paula: {note['shared_deal']['notes'][0]['fields']['body']['value']}")
        self.say(f"  {comment['by']} ({comment['side']}): {comment['value']}")
        seen = get(self.vendor, f"/api/shared-deals/{there}")
        if "margin" in str(seen):
            raise StoryFailed("a private note has crossed")
        self.say("  [dim]Paula's private note about the margin is in no answer of Initech's node.[/]")

    def watch_states(self) -> None:
        self.chapter("One edit, and whether the other side has it yet")
        here = next(iter(self.pairs))
        path = f"/api/shared-deals/{here}"
        self.partner.patch(path, json={"values": {"close_date": "2027-03-31"}}).raise_for_status()
        states: list[str] = []

        def look() -> bool:
            state = get(self.partner, path)["deal"]["fields"]["close_date"]["sync"]
            if not states or states[-1] != state:
                states.append(state)
            return bool(state == "applied")

        await_that("the edit is applied by the peer", look, 0.0)
        self.say(f"  close date → 2027-03-31: [yellow]{' → '.join(states)}[/] (as fast as the API could be asked)")

    def collide(self) -> None:
        self.chapter("Both change the amount without having seen the other's change")
        here = next(iter(self.pairs))
        there = self.pairs[here]
        seen = {"amount": get(self.partner, f"/api/shared-deals/{here}")["deal"]["fields"]["amount"]["seen"]}
        for client, id, amount in ((self.partner, here, "19500"), (self.vendor, there, "17000")):
            client.patch(f"/api/shared-deals/{id}", json={"values": {"amount": money(amount)}, "seen": seen}).raise_for_status()
        await_that(
            "both see the same conflict",
            lambda: bool(results(self.partner, "/api/conflicts")) and bool(results(self.vendor, "/api/conflicts")),
        )
        conflict = get(self.partner, f"/api/conflicts/{results(self.partner, '/api/conflicts')[0]['id']}")
        table = Table("", "amount", "who", box=None, header_style="dim")
        table.add_row("base", show(conflict["base"]), "")
        for side in ("ours", "theirs"):
            table.add_row(side, show(conflict[side]["value"]), conflict[side]["by"])
        table.add_row("[bold]shown", show(conflict["shown"]), conflict["why"])
        self.console.print(table)
        body = {"choice": "edit", "values": {"value": money("18250")}, "seen": conflict["seen"]}
        post(self.partner, f"/api/conflicts/{conflict['id']}/settle", body)
        await_that("it is settled on both sides", lambda: not results(self.vendor, "/api/conflicts"))
        self.say("  Paula settles on 18250 EUR: the conflict closes on both sides, and all four values stay in the history.")

    def contest(self) -> None:
        self.chapter("Paula deletes a deal that Victor has just changed")
        here = list(self.pairs)[1]
        there = self.pairs[here]
        shown = get(self.partner, f"/api/shared-deals/{here}")["deal"]
        self.vendor.patch(f"/api/shared-deals/{there}", json={"values": {"next_step": "Victor sends the contract"}}).raise_for_status()
        await_that("the change has arrived", lambda: "next_step" in get(self.partner, f"/api/shared-deals/{here}")["deal"]["fields"])
        seen = {name: field["seen"] for name, field in shown["fields"].items()} | {"life": shown["life_seen"]}
        post(self.partner, f"/api/shared-deals/{here}/delete-for-both", {"seen": seen})
        await_that("it is contested on both sides", lambda: get(self.vendor, f"/api/shared-deals/{there}")["state"] == "contested")
        deal = get(self.vendor, f"/api/shared-deals/{there}")["deal"]
        unseen = ", ".join(deal["changed_unseen"])
        self.say(f"  Deleted by {deal['deleted_by']}; {unseen} changed without her having seen that. It stays until somebody decides.")
        post(self.vendor, f"/api/shared-deals/{there}/restore", {})
        await_that("it lives again", lambda: get(self.partner, f"/api/shared-deals/{here}")["state"] == "alive")
        self.say("  Victor restores it, and it lives on both sides.")

    def show_both(self) -> None:
        self.chapter("What each side sees now")
        for client, name in ((self.partner, "Nordlicht Consulting (partner)"), (self.vendor, "Initech (vendor)")):
            self.say(f"  [bold]{name}")
            table = Table("deal", "amount", "close date", "stage", "sync", box=None, header_style="dim", pad_edge=False)
            for each in results(client, "/api/shared-deals"):
                deal = get(client, f"/api/deals/{each['deal_id']}")
                sync = get(client, f"/api/shared-deals/{each['id']}")["sync"]
                row = (deal["name"], show(deal["amount"]), deal["close_date"], deal["stage"], sync)
                table.add_row(*(str(value or "") for value in row))
            self.console.print(Padding(table, (0, 0, 1, 2)))


def money(amount: str) -> Json:
    return {"amount": amount, "currency": "EUR"}


def show(value: Any) -> str:
    return f"{value['amount']} {value['currency']}" if value else ""


def get(client: httpx.Client, path: str) -> Json:
    answer: Json = client.get(path).raise_for_status().json()
    return answer


def results(client: httpx.Client, path: str) -> list[Json]:
    found: list[Json] = get(client, path)["results"]
    return found


def post(client: httpx.Client, path: str, body: Json) -> Json:
    answer = client.post(path, json=body)
    if answer.is_error:
        raise StoryFailed(f"{path}: {answer.text}")
    made: Json = answer.json()
    return made


def await_that(what: str, condition: Callable[[], bool], pause_s: float = 0.05) -> None:
    """Ask until it is so; raises StoryFailed after a minute."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise StoryFailed(f"after {WAIT_S} s it is not so that {what}")
        time.sleep(pause_s)
