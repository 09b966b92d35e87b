"""The example runs as it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from fake_service import CREATED, Service

ROOT = Path(__file__).parent.parent


def test_the_quick_start_runs(service: Service) -> None:
    service.answer("CreateWorkloadIdentity", {"name": "my-agent", "workloadIdentityArn": "arn"})
    service.answer("PutAuthorizer", {"version": 1})
    service.answer("CreateOauth2CredentialProvider", CREATED)
    service.answer("PutTool", {"name": "salesforce_get_account", "version": 1, "createdTime": 1, "lastUpdatedTime": 1})
    service.answer("InvokeTool", {"statusCode": 200, "headers": {}, "body": '{"id":"123"}', "isBase64Encoded": False})
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "quickstart.py", "--issuer", "https://idp.example", "--audience", "a"]
        + ["--token-url", "https://idp.example/token", "--client-id", "c", "--user-id", "ada"]
        + ["--api-url", "https://api.example:8443/accounts/"],
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": service.url,
            "PYTHONPATH": str(ROOT / "src"),
            "QUICKSTART_CLIENT_SECRET": "s",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"id": "123"}
    (tool,) = service.bodies("PutTool")
    assert tool["request"] == {"method": "GET", "url": "https://api.example:8443/accounts/{account_id}"}
    (stored,) = service.bodies("CreateOauth2CredentialProvider")
    assert stored["tags"]["agent-identity:injectable-hosts"] == "api.example:8443"
    (call,) = service.bodies("InvokeTool")
    assert call["input"] == {"account_id": "123"}
