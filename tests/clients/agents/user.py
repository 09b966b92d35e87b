"""An agent that calls a service on behalf of its user: it prints the URL at which the user has to agree, and waits."""

import asyncio
import json
import sys

from bedrock_agentcore.identity import requires_access_token

provider, callback_url, *scopes = sys.argv[1:]


@requires_access_token(
    provider_name=provider,
    scopes=scopes,
    auth_flow="USER_FEDERATION",
    callback_url=callback_url or None,
    on_auth_url=lambda url: print(json.dumps({"authorization_url": url}), flush=True),
)
async def call_service(*, access_token: str) -> None:
    print(json.dumps({"access_token": access_token}), flush=True)


asyncio.run(call_service())
