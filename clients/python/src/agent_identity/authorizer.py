"""From what is known about an issuer to an authorizer of an agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .config import JwtConfig, refuse_unknown_keys

_WELL_KNOWN = "/.well-known/"
_COGNITO = re.compile(r"https://cognito-idp\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^/]+")


def jwt_authorizer(config: JwtConfig) -> Mapping[str, Any]:
    """The `customJWTAuthorizer` for an issuer.

    Raises:
        ValueError: a key is unknown; the issuer is missing; neither an audience nor a client is named. An issuer alone
            would let every client of it pass.
    """
    refuse_unknown_keys(config, JwtConfig)
    issuer, discovery_url = _issuer(config)
    audience = config.get("audience", ())
    audiences = [audience] if isinstance(audience, str) else list(audience)
    clients = [*([config["client_id"]] if "client_id" in config else []), *config.get("allowed_clients", ())]
    if not audiences and not clients:
        raise ValueError("an issuer is not enough: say whose tokens are for the agent, with audience or client_id")
    claims = []
    if _COGNITO.fullmatch(issuer):
        # D25: Cognito's access tokens have their client in `client_id` and no `aud`; its id tokens stay out.
        clients, audiences = [*audiences, *clients], []
        claims.append(_text_claim("token_use", "access"))
    authorizer = {
        "allowedAudience": audiences,
        "allowedClients": clients,
        "allowedScopes": list(config.get("scopes", ())),
        "customClaims": claims,
    }
    return {"discoveryUrl": discovery_url, **{name: value for name, value in authorizer.items() if value}}


def _issuer(config: JwtConfig) -> tuple[str, str]:
    """The issuer without its last slash, and the URL of its metadata."""
    discovery_url = config.get("discovery_url", "")
    issuer = (config.get("issuer") or discovery_url.partition(_WELL_KNOWN)[0]).rstrip("/")
    if not issuer:
        raise ValueError("issuer is missing")
    return issuer, discovery_url or f"{issuer}{_WELL_KNOWN}openid-configuration"


def _text_claim(name: str, value: str) -> dict[str, Any]:
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": "STRING",
        "authorizingClaimMatchValue": {
            "claimMatchValue": {"matchValueString": value},
            "claimMatchOperator": "EQUALS",
        },
    }
