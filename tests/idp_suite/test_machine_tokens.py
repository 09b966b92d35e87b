"""M2M: tokens of the agent itself from a real OpenID provider."""

import threading

import jwt
import pytest

from harness import planted
from harness.product import create_signing_key
from harness.stories import custom_config, machine_token, make_machine_provider, make_workload, workload_token


@pytest.fixture(scope="module")
def wat(caller, workload):
    return workload_token(caller, workload)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_token_is_fetched_with_each_client_authentication(caller, normal_vendor, wat, fresh, method):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"), method)
    token = machine_token(caller, wat, provider)
    (request,) = normal_vendor.token_requests()
    assert (request["grantType"], request["authentication"]) == ("client_credentials", method)
    assert (request["clientId"], request["scope"]) == (provider, "things.read")
    assert normal_vendor.call_api(token)[0] == 200


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
def test_a_token_is_fetched_with_a_private_key_that_the_vault_keeps(
    caller, server, normal_vendor, wat, fresh, algorithm
):
    name = fresh("assertion")
    arn, public_jwk = create_signing_key(server.data, name, algorithm)
    normal_vendor.register_client(
        name,
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg=algorithm,
        jwks={"keys": [public_jwk | {"use": "sig", "alg": algorithm}]},
    )
    config = custom_config(
        normal_vendor, name, None,
        clientAuthenticationMethod="PRIVATE_KEY_JWT",
        privateKeyJwtConfig={
            "privateKeySource": {"kmsKeySource": {"kmsKeyArn": arn}}, "signingAlgorithm": algorithm,
        },
    )  # fmt: skip
    made = caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=config,
    )
    shown = made["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]["privateKeyJwtConfig"]
    assert shown["privateKeySource"]["kmsKeySource"]["kmsKeyArn"] == arn
    token = machine_token(caller, wat, name)
    (request,) = normal_vendor.token_requests()
    assert request["authentication"] == "private_key_jwt"
    assert request["assertionKid"] == public_jwk["kid"] == name, "a client with several keys says which one it is"
    assert normal_vendor.call_api(token)[1]["client"] == name


def test_an_unknown_signing_key_is_refused_at_use_and_named(caller, normal_vendor, wat, fresh):
    name = fresh("assertion")
    arn = "arn:aws:kms:us-east-1:000000000000:key/12345678-1234-1234-1234-123456789012"
    caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(
            normal_vendor, name, None,
            clientAuthenticationMethod="PRIVATE_KEY_JWT",
            privateKeyJwtConfig={
                "privateKeySource": {"kmsKeySource": {"kmsKeyArn": arn}}, "signingAlgorithm": "ES256",
            },
        ),
    )  # fmt: skip
    answer = ask(caller, wat, name)
    assert 400 <= answer.status < 500 and arn in answer.message, answer
    assert normal_vendor.token_requests() == []


def ask(caller, wat, provider, scopes=("things.read",), **more):
    return caller.call(
        "GetResourceOauth2Token",
        workloadIdentityToken=wat,
        resourceCredentialProviderName=provider,
        scopes=list(scopes),
        oauth2Flow="M2M",
        **more,
    )


def test_a_token_is_cached_until_it_is_about_to_end(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    tokens = {machine_token(caller, wat, provider) for _ in range(5)}
    assert len(tokens) == 1
    assert normal_vendor.count("client_credentials") == 1


def test_a_user_bound_token_may_ask_for_machine_tokens_too(caller, normal_vendor, workload, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    token = machine_token(caller, wat, provider)
    assert machine_token(caller, workload_token(caller, workload, "alice"), provider) == token
    assert normal_vendor.count("client_credentials") == 1


def test_d24_each_set_of_parameters_has_a_token_of_its_own(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    variants = [
        {"scopes": ["things.read"]},
        {"scopes": ["things.read", "things.write"]},
        {"scopes": ["things.read"], "resources": ["https://one.example"]},
        {"scopes": ["things.read"], "resources": ["https://two.example"]},
        {"scopes": ["things.read"], "audiences": ["https://one.example"]},
        {"scopes": ["things.read"], "customParameters": {"tenant": "a"}},
        {"scopes": ["things.read"], "customParameters": {"tenant": "b"}},
    ]
    tokens = [machine_token(caller, wat, provider, **variant) for variant in variants]
    assert len(set(tokens)) == len(variants)
    assert normal_vendor.count("client_credentials") == len(variants)
    again = [machine_token(caller, wat, provider, **variant) for variant in variants]
    assert again == tokens
    assert normal_vendor.count("client_credentials") == len(variants)


def test_d24_the_order_of_scopes_makes_no_difference(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    one = machine_token(caller, wat, provider, ["things.read", "things.write"])
    assert machine_token(caller, wat, provider, ["things.write", "things.read"]) == one


def test_d24_two_workloads_do_not_share_a_token(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    other = workload_token(caller, make_workload(caller, fresh("other-agent")))
    assert machine_token(caller, wat, provider) != machine_token(caller, other, provider)


def test_a_resource_is_passed_and_comes_back_as_the_audience_of_a_jwt(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    token = machine_token(caller, wat, provider, resources=["https://things.example"])
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == "https://things.example"
    assert normal_vendor.call_api(token)[0] == 200


@pytest.mark.parametrize(
    "name",
    ["client_id", "client_secret", "grant_type", "scope", "code", "redirect_uri", "state", "code_verifier", "resource",
     "audience", "request", "request_uri", "response_mode", "client_assertion", "client_assertion_type", "refresh_token"],
)  # fmt: skip
def test_d24_a_custom_parameter_cannot_name_what_we_send(caller, normal_vendor, wat, fresh, name):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    answer = ask(caller, wat, provider, customParameters={name: "x"})
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert any(field.startswith("customParameters") for field in answer.wrong_fields)
    assert normal_vendor.token_requests() == []


def test_a_hundred_first_reads_at_once_are_one_request_to_the_vendor(server, caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    normal_vendor.make_trouble("slow", milliseconds=300)
    credentials, tokens = caller.credentials, []

    def read():
        with_own_connection = server.caller(credentials)
        tokens.append(machine_token(with_own_connection, wat, provider))
        with_own_connection.close()

    threads = [threading.Thread(target=read) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 100 and len(set(tokens)) == 1
    assert normal_vendor.count("client_credentials") == 1


def test_d3_a_new_client_id_ends_the_tokens_of_the_old_one(caller, normal_vendor, wat, fresh):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    old = machine_token(caller, wat, provider)
    secret, client = planted.new_secret("client secret"), fresh("machine")
    normal_vendor.register_client(client, client_secret=secret)
    caller.ok(
        "UpdateOauth2CredentialProvider",
        name=provider,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(normal_vendor, client, secret),
    )
    new = machine_token(caller, wat, provider)
    assert new != old
    assert normal_vendor.call_api(new)[1]["client"] == client


def test_a_wrong_client_secret_is_an_error_that_says_whose_fault_it_is_and_no_secret(
    caller, normal_vendor, wat, fresh
):
    name, secret = fresh("machine"), planted.new_secret("client secret")
    normal_vendor.register_client(name, client_secret=planted.new_secret("client secret"))
    config = custom_config(normal_vendor, name, secret, clientAuthenticationMethod="CLIENT_SECRET_BASIC")
    caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=config,
    )
    answer = ask(caller, wat, name)
    assert 400 <= answer.status < 500, answer
    assert "invalid_client" in answer.message
    assert secret not in answer.body.decode()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_vendor_in_trouble_is_not_our_internal_error(caller, normal_vendor, wat, fresh, status):
    provider = make_machine_provider(caller, normal_vendor, fresh("machine"))
    normal_vendor.make_trouble("status", status=status)
    answer = ask(caller, wat, provider)
    assert answer.status == 429 and answer.error == "ThrottlingException", answer
    assert "the provider is in trouble" not in answer.body.decode(), "a provider's body is never echoed"


def test_a_vendor_that_does_not_listen_on_a_listed_address_is_not_asked(caller, normal_vendor, wat, fresh):
    """Egress: loopback only to host:port that the operator listed, so a second listener is out of reach."""
    name = fresh("forbidden")
    for host, port in (("127.0.0.1", 9), ("127.0.0.2", normal_vendor.port), ("10.0.0.1", normal_vendor.port)):
        provider = f"{name}-{host.replace('.', '-')}"
        base = f"http://{host}:{port}"
        metadata = {"issuer": base, "authorizationEndpoint": f"{base}/auth", "tokenEndpoint": f"{base}/token"}
        created = caller.call(
            "CreateOauth2CredentialProvider",
            name=provider,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={"customOauth2ProviderConfig": {
                "oauthDiscovery": {"authorizationServerMetadata": metadata},
                "clientId": "a", "clientSecret": planted.new_secret("client secret")}},
        )  # fmt: skip
        if created.status != 201:
            assert created.error == "ValidationException", created
            continue
        answer = ask(caller, wat, provider)
        assert (answer.status, answer.error) == (400, "ValidationException"), answer
    assert normal_vendor.token_requests() == []
