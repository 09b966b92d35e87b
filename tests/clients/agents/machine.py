"""An agent that calls a service as itself: unmodified `bedrock-agentcore` SDK, local development flow."""

import json
import sys

from bedrock_agentcore.identity import requires_access_token

provider, scope = sys.argv[1:]


@requires_access_token(provider_name=provider, scopes=[scope], auth_flow="M2M")
def call_service(*, access_token: str) -> None:
    print(json.dumps({"access_token": access_token}), flush=True)


call_service()
