"""Sample data that reads like real life: the partner Nordlicht Consulting and the vendor Initech, who sell together."""

from typing import NamedTuple

from shared_schema.crm import customers, deals, users
from shared_schema.sync.station import Station, Work
from vendor_node import reps

PARTNER, VENDOR = "Nordlicht Consulting", "Initech"
STAGES = [("New", "open"), ("Qualified", "open"), ("Proposal", "open"), ("Negotiation", "open"), ("Won", "won"), ("Lost", "lost")]
PARTNER_PEOPLE = [("Paula Brandt", "paula.brandt", "admin"), ("Jonas Feld", "jonas.feld", "rep")]
VENDOR_PEOPLE = [
    ("Victor Hale", "victor.hale", "admin"),
    ("Rita Okafor", "rita.okafor", "rep"),
    ("Sam Lindqvist", "sam.lindqvist", "rep"),
    ("Mina Torres", "mina.torres", "rep"),
]
# Who, weight, most open deals, territories; Mina is out of office.
REPS = [("Victor", 1, 40, ["CH"]), ("Rita", 2, 40, ["DE", "AT"]), ("Sam", 1, 40, ["DE", "SE"]), ("Mina", 1, 40, ["DE", "ES"])]
OUT_OF_OFFICE = {"out_from": "2020-01-01", "out_until": "2099-12-31"}

# Company, domain, country, industry, contact, amount in EUR, what the deal is about.
CUSTOMERS = [
    ("Globex Energie", "globex.example", "DE", "Energy", "Hanna Roth", "48000", "CRM roll-out"),
    ("Hafen Logistik", "hafen-logistik.example", "DE", "Logistics", "Ole Petersen", "12500", "Fleet reporting"),
    ("Alpina Uhren", "alpina-uhren.example", "CH", "Manufacturing", "Reto Keller", "76000", "Dealer portal"),
    ("Wiener Backstuben", "backstuben.example", "AT", "Food", "Leni Gruber", "9800", "Loyalty programme"),
    ("Söderberg Möbel", "soderberg.example", "SE", "Retail", "Astrid Ek", "31500", "Omnichannel service"),
    ("Clínica Sol", "clinicasol.example", "ES", "Health", "Marta Vidal", "54000", "Patient journeys"),
    ("Kanzlei Berg & Sohn", "berg-sohn.example", "DE", "Legal", "Theo Berg", "7200", "Client intake"),
    ("Rheinstahl Technik", "rheinstahl.example", "DE", "Manufacturing", "Ines Kraft", "120000", "Field service"),
    ("Muster Druck", "muster-druck.example", "DE", "Media", "Uwe Muster", "15400", "Quote automation"),
    ("Aarau Biotech", "aarau-bio.example", "CH", "Health", "Selin Kaya", "88000", "Partner onboarding"),
    ("Café Mozart", "cafe-mozart.example", "AT", "Food", "Franz Huber", "4300", "Table booking"),
    ("Göteborg Shipping", "gbg-shipping.example", "SE", "Logistics", "Nils Holm", "67000", "Tender desk"),
    ("Bodega Rioja Alta", "rioja-alta.example", "ES", "Food", "Javier Cruz", "18900", "Wholesale portal"),
    ("Lumen Solar", "lumen-solar.example", "DE", "Energy", "Katrin Wolf", "39000", "Installer scheduling"),
    ("Spree Immobilien", "spree-immo.example", "DE", "Real estate", "Deniz Arslan", "27500", "Tenant desk"),
    ("Tirol Sport", "tirol-sport.example", "AT", "Retail", "Maria Egger", "22000", "Rental returns"),
    ("Basel Versicherung", "basel-vers.example", "CH", "Insurance", "Urs Frei", "140000", "Claims intake"),
    ("Stockholm Kaffe", "sthlm-kaffe.example", "SE", "Food", "Elsa Berg", "6100", "Subscriptions"),
    ("Madrid Movil", "madrid-movil.example", "ES", "Telecom", "Lucia Gil", "93000", "Churn desk"),
    ("Elbe Werkzeuge", "elbe-werkzeuge.example", "DE", "Manufacturing", "Paul Hartmann", "34500", "Spare parts shop"),
    ("Nordsee Klinik", "nordsee-klinik.example", "DE", "Health", "Frauke Janssen", "58000", "Referral network"),
    ("Graz Robotics", "graz-robotics.example", "AT", "Manufacturing", "Lukas Steiner", "71000", "Service contracts"),
    ("Zürich Finanz", "zh-finanz.example", "CH", "Finance", "Nina Vogt", "110000", "Advisor workplace"),
    ("Hamburg Hören", "hh-hoeren.example", "DE", "Health", "Carsten Voss", "13200", "Store appointments"),
]


class Planted(NamedTuple):
    """The people of a side by first name: a token for each, and their ids."""

    tokens: dict[str, str]
    ids: dict[str, int]


async def plant_partner(station: Station) -> Planted:
    """The partner's people, customers and deals."""
    async with station.working() as work:
        planted = await plant_people(work, PARTNER_PEOPLE, "nordlicht.example")
        paula, jonas = planted.ids.values()
        await customers.add_pipeline(work.tx, "Consulting", STAGES)
        for company, domain, country, industry, contact, amount, about in CUSTOMERS:
            values = {"name": company, "domain": domain, "country": country, "industry": industry, "owner_id": paula}
            company_id = await customers.add_company(work.tx, values, work.now_ms)
            person = {"name": contact, "email": f"{contact.split()[0].lower()}@{domain}", "company_id": company_id}
            contact_id = await customers.add_contact(work.tx, person, work.now_ms)
            owner_id = (paula, jonas)[company_id % 2]
            deal = {"name": f"{company}: {about}", "amount": {"amount": amount, "currency": "EUR"}, "owner_id": owner_id}
            deal |= {"company_id": company_id, "contact_ids": [contact_id], "close_date": f"2027-0{1 + company_id % 6}-15"}
            await deals.add_deal(work.tx, deal, paula, work.now_ms)
    return planted


async def plant_vendor(station: Station) -> Planted:
    """The vendor's people, its four reps, and a company that somebody owns already."""
    async with station.working() as work:
        planted = await plant_people(work, VENDOR_PEOPLE, "initech.example")
        await customers.add_pipeline(work.tx, "Co-selling", STAGES)
        for name, weight, cap, territories in REPS:
            await reps.add_rep(work.tx, planted.ids[name], {"weight": weight, "cap": cap, "territories": territories})
        await reps.change_rep(work.tx, planted.ids["Mina"], OUT_OF_OFFICE)
        owned = {"name": "Alpina Uhren AG", "domain": "alpina-uhren.example", "country": "CH", "owner_id": planted.ids["Sam"]}
        await customers.add_company(work.tx, owned, work.now_ms)
    return planted


async def plant_people(work: Work, people: list[tuple[str, str, str]], domain: str) -> Planted:
    planted = Planted({}, {})
    for name, mailbox, role in people:
        first = name.split()[0]
        planted.ids[first] = user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{mailbox}@{domain}", role)
        planted.tokens[first] = await users.issue_token(work.tx, user_id, "demo", work.incarnation.clock.random_bits(192), work.now_ms)
    return planted
