"""P4: how many token requests the provider sees when 100 readers in two processes find the same token expired."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from harness.app import App
from harness.product import ON_READ_ALONE, Server
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token
from harness.vendor import Vendor

READERS = 100
TTL_SECONDS = 3


def token_requests(directory: Path) -> int:
    vendor, app = Vendor(access_token_ttl=TTL_SECONDS), App()
    servers = [Server(directory / "store", (vendor.address,), environment=ON_READ_ALONE).start() for _ in range(2)]
    try:
        caller = servers[0].caller()
        make_workload(caller, "agent", app.return_url)
        provider = make_user_provider(caller, vendor, "vendor")
        connected_user(caller, "agent", provider, "alice", app.return_url)
        wat = workload_token(caller, "agent", "alice")
        time.sleep(TTL_SECONDS + 0.5)
        before = vendor.counters()["total"]
        tokens: list[str | None] = []
        together = threading.Barrier(READERS)

        def read(server: Server) -> None:
            own = server.caller(caller.credentials)
            together.wait()
            tokens.append(stored_token(own, wat, provider).json.get("accessToken"))
            own.close()

        threads = [threading.Thread(target=read, args=(servers[n % 2],)) for n in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(tokens) != READERS or len(set(tokens)) != 1 or None in tokens:
            raise AssertionError(f"{len(tokens)} readers got {len(set(tokens))} answers")
        return vendor.counters()["total"] - before
    finally:
        for server in servers:
            server.stop()
        vendor.stop()
        app.stop()
