"""A process that is told to end answers the requests that are under way, and takes no more."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from deploy.demo.processes import NodeProcess
from partner_node.spec import SPEC as PARTNER
from tests.planting import add_admin, open_station
from tests.stores import file_of, open_file

COMPANY = {"name": "Globex", "domain": "globex.example"}


async def test_a_request_under_way_is_answered_before_the_process_ends(tmp_path: Path, kafka_address: str) -> None:
    url = f"sqlite:///{tmp_path}/partner.db"
    station = await open_station(PARTNER, url)
    async with station.working() as work:
        token = await add_admin(work, "Paula")
    await station.database.close()
    node = NodeProcess("partner", url, kafka_address, tmp_path)
    with ThreadPoolExecutor() as threads:
        threads.submit(node.start).result()
        with closing(open_file(file_of(url))) as store, node.client(token) as client:
            store.execute("BEGIN IMMEDIATE")  # so that the request has to wait
            asked = threads.submit(client.post, "/api/companies", json=COMPANY)
            with pytest.raises(TimeoutError):
                asked.result(1)
            ended = threads.submit(node.stop)
            with pytest.raises(TimeoutError):
                ended.result(0.5)
            store.execute("COMMIT")
            assert asked.result().status_code == 201
            ended.result()
            with pytest.raises(httpx.TransportError):
                client.get("/healthz")
    with closing(sqlite3.connect(file_of(url))) as store:
        assert store.execute("SELECT name FROM companies").fetchall() == [("Globex",)]
