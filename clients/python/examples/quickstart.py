"""The quick start: an agent whose users sign in at an identity provider calls Salesforce, and never has a token.

It needs a server, and its environment:

    agent-identity serve
    eval "$(agent-identity env)"

    python examples/quickstart.py \
        --issuer https://cognito-idp.us-east-1.amazonaws.com/us-east-1_xxxxx --audience my-client-id \
        --token-url https://login.salesforce.com/services/oauth2/token --client-id ... --client-secret-arn arn:aws:... \
        --api-url https://example.my.salesforce.com/services/data/v61.0/sobjects/Account --user-token eyJ...

Each option may be in the environment instead, such as QUICKSTART_CLIENT_SECRET: others may see command lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from urllib.parse import urlsplit

from agent_identity import ConsentRequired, GatewayClient, IdentityClient, Oauth2Config, ToolError


def arguments() -> argparse.Namespace:
    """What the command line or the environment says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)

    def option(target: argparse._ActionsContainer, name: str, text: str, required: bool = False) -> None:
        value = os.environ.get("QUICKSTART_" + name.upper().replace("-", "_"))
        target.add_argument(f"--{name}", help=text, default=value, required=required and value is None)

    option(parser, "issuer", "issuer of the users' tokens", required=True)
    option(parser, "audience", "their audience; for Cognito the app client id", required=True)
    option(parser, "token-url", "token endpoint of the external service", required=True)
    option(parser, "client-id", "client id there", required=True)
    option(parser, "client-secret", "its secret, or")
    option(parser, "client-secret-arn", "where the secret is")
    option(parser, "api-url", "URL of the accounts of the external service", required=True)
    option(parser, "user-token", "JWT of the user, or")
    option(parser, "user-id", "id of the user")
    return parser.parse_args()


def main() -> int:
    """Runs the example."""
    args = arguments()
    identity = IdentityClient()

    # Configure JWT authorizer
    identity.configure_authorizer(
        agent_id="my-agent",
        authorizer_type="jwt",
        config={
            "issuer": args.issuer,
            "audience": args.audience,
        },
    )

    # Store OAuth credentials for external service
    config: Oauth2Config = {
        "client_id": args.client_id,
        "token_url": args.token_url,
        # The token goes to this host and to no other, whatever a tool says.
        "injectable_hosts": [urlsplit(args.api_url).netloc],
    }
    if args.client_secret_arn:
        config["client_secret_arn"] = args.client_secret_arn
    else:
        config["client_secret"] = args.client_secret
    identity.store_credential(
        agent_id="my-agent",
        credential_name="salesforce",
        credential_type="oauth2",
        config=config,
    )

    # A step of its own: the tool says which request the agent may have sent, so that the credential stays in the vault.
    # The agent fills in `account_id`, and can reach nothing else.
    identity.put_tool(
        name="salesforce_get_account",
        description="Reads an account.",
        request={"method": "GET", "url": args.api_url.rstrip("/") + "/{account_id}"},
        input_schema={
            "type": "object",
            "properties": {"account_id": {"type": "string"}},
            "required": ["account_id"],
            "additionalProperties": False,
        },
        credential={"providerName": "salesforce", "flow": "M2M"},
        allowed_workloads=["my-agent"],
    )

    # Credentials are automatically injected when calling tools
    # No need to handle tokens in your code

    # Via Gateway
    gateway = GatewayClient("my-agent", user_token=args.user_token, user_id=args.user_id, identity=identity)
    try:
        result = gateway.invoke_tool(
            tool_name="salesforce_get_account",
            input={"account_id": "123"},
        )
    except (ConsentRequired, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    # Identity automatically provides OAuth token
    print(json.dumps(result.json(), indent=2))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
