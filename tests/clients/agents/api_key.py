"""An agent that calls a service with an API key."""

import json
import sys

from bedrock_agentcore.identity import requires_api_key


@requires_api_key(provider_name=sys.argv[1])
def call_service(*, api_key: str) -> None:
    print(json.dumps({"api_key": api_key}), flush=True)


call_service()
