"""boto3 clients that speak to agent-identity, and never to AWS's own AgentCore.

botocore merges one `service-2.sdk-extras.json` into its model of a service: the first that it finds. Ours have the
operations that AWS does not have. They are loaded in a session of their own, so that other clients of the process keep
AWS's models.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from .errors import EndpointNotSet, StaleModels

CONTROL = "bedrock-agentcore-control"
"""The service that manages workloads, credentials, authorizers and tools."""

DATA = "bedrock-agentcore"
"""The service that gives tokens and keys, and calls tools."""

MODELS = Path(__file__).with_name("models")
"""Our additions to botocore's models, as `tools/models.py` copies them."""

_EXTRAS = "service-2.sdk-extras.json"
_MAKER = ("madeBy", "agent-identity")
_SERVER_REGION = "us-east-1"  # That of `agent-identity serve`, when it was told no other.
_AWS_AGENTCORE = re.compile(r"(^|\.)bedrock-agentcore(-control)?(-fips)?\.[a-z]+(-[a-z]+)+-\d+\.")
_API_GATEWAY = re.compile(r"\.execute-api\.(?P<region>[a-z0-9-]+)\.(vpce\.)?amazonaws\.com(\.cn)?$")


class Connection:
    """Makes clients for one place: region, endpoint and credentials."""

    def __init__(
        self,
        region: Optional[str] = None,
        endpoint_url: Optional[str] = None,
        session: Optional[boto3.Session] = None,
        on_api_gateway: Optional[bool] = None,
    ) -> None:
        """Says where agent-identity is.

        Args:
            region: the region to sign for; else that of the session, else `us-east-1`. For a host of API Gateway it
                is the host's.
            endpoint_url: the URL of agent-identity; else what boto3 finds: `AWS_ENDPOINT_URL_BEDROCK_AGENTCORE`,
                `AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL`, `AWS_ENDPOINT_URL`, or the profile's.
            session: whose credentials, profile and region to use; else boto3's default.
            on_api_gateway: whether to sign for API Gateway. It is seen by the host unless that is a custom domain.
        """
        given = session or boto3.DEFAULT_SESSION or boto3.Session()
        own = botocore.session.Session(profile=_profile(given))
        own.register_component("credential_provider", _CredentialsOf(given))
        _put_models_first(own.get_component("data_loader"))
        # Type stubs of boto3 know services by literals only.
        self._session: Any = boto3.Session(
            botocore_session=own, region_name=region or given.region_name or _SERVER_REGION
        )
        self._endpoint_url = endpoint_url
        self._on_api_gateway = on_api_gateway

    def client(self, service: str, *, retries: bool = True) -> Any:
        """A boto3 client of one of the two services.

        Args:
            service: `CONTROL` or `DATA`.
            retries: whether boto3 may send a request again when it does not know what became of it.

        Raises:
            EndpointNotSet: no endpoint is set, or it is AWS's own.
            StaleModels: the models along `AWS_DATA_PATH` are older than this package.
        """
        config = None if retries else Config(retries={"total_max_attempts": 1})
        client = self._session.client(service, endpoint_url=self._endpoint_url, config=config)
        host = urlsplit(client.meta.endpoint_url).hostname or ""
        if _AWS_AGENTCORE.search(host):
            raise EndpointNotSet(
                f"no endpoint is set for `{service}`, and AWS's own AgentCore is not called: "
                'run `eval "$(agent-identity env)"`, or pass endpoint_url'
            )
        _refuse_stale_models(service, client)
        found = _API_GATEWAY.search(host)
        on_api_gateway = found is not None if self._on_api_gateway is None else self._on_api_gateway
        if on_api_gateway:
            _sign_for_api_gateway(service, client, found["region"] if found else None)
        return client


class _CredentialsOf:
    """A credential provider of botocore that has what another session has, and renews it as that one does."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session

    def load_credentials(self) -> Any:
        return self._session.get_credentials()


def _profile(session: boto3.Session) -> Optional[str]:
    # boto3 says `default` also where the configuration has no such profile, and botocore refuses to look for it there.
    return session.profile_name if session.profile_name in session.available_profiles else None


def _put_models_first(loader: Loader) -> None:
    # What `agent-identity aws-models install` wrote comes before: it knows the deployment.
    installed = [path for path in loader.search_paths if _has_our_models(Path(path))]
    others = [path for path in loader.search_paths if path not in installed]
    loader.search_paths[:] = [*installed, str(MODELS), *others]


def _has_our_models(directory: Path) -> bool:
    files = [file for service in (CONTROL, DATA) for file in directory.glob(f"{service}/*/{_EXTRAS}")]
    return any(_is_ours(file) for file in files)


def _is_ours(file: Path) -> bool:
    name, value = _MAKER
    try:
        extras = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(extras, dict) and extras.get(name) == value


def _refuse_stale_models(service: str, client: Any) -> None:
    for file in MODELS.glob(f"{service}/*/{_EXTRAS}"):
        operations = json.loads(file.read_bytes())["merge"].get("operations", {})
        for missing in sorted(set(operations) - set(client.meta.service_model.operation_names)):
            raise StaleModels(
                f"the model of `{service}` that is installed has no {missing}: "
                'run `eval "$(agent-identity aws-models install)"` again'
            )


def _sign_for_api_gateway(service: str, client: Any, region: Optional[str]) -> None:
    """API Gateway takes signatures for `execute-api` in its own region only."""
    signing = {"signing_name": "execute-api", **({"region": region} if region else {})}

    def choose(context: dict[str, Any], **_: Any) -> None:
        # The way in which botocore itself signs some operations for another service (`set_operation_specific_signer`).
        context.setdefault("signing", {}).update(signing)

    client.meta.events.register(f"choose-signer.{service}", choose)
