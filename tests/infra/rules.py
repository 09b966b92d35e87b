"""The rules. Each takes the template and gives what is wrong with it, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from .cloudformation import Decided, as_list
from .iam import name_of, role_of, statements

Json = Any
Rule = Callable[[dict[str, Json]], Iterator[str]]
RULES: list[Rule] = []

FUNCTIONS = {
    "AuthorizerFunction": "authorizer",
    "CredentialsFunction": "credentials",
    "TokensFunction": "tokens",
    "GatewayFunction": "gateway",
    "RefreshFunction": "refresh",
    "SampleFunction": "sample",
}

# What a user's browser opens: it cannot sign.
BROWSER_ROUTES = {
    "GET /identities/oauth2/authorize",
    "POST /identities/oauth2/authorize",
    "GET /identities/oauth2/callback/{provider}",
}

# What a client reads before it has a token.
METADATA_ROUTE = "GET /.well-known/oauth-protected-resource/agents/{agentId}/mcp"

# Behind the Lambda authorizer.
AUTHORIZED_ROUTES = {"GET /sample", "POST /agents/{agentId}/tools/{tool}", "POST /agents/{agentId}/mcp"}

# `*` as a resource, and why.
STAR_RESOURCES = {
    ("VaultKey", "Administration"): "in a key's policy, `*` is this key: its ARN is not known before it is made",
    ("AuthorizerKey", "Administration"): "in a key's policy, `*` is this key",
    ("AuditKey", "Administration"): "in a key's policy, `*` is this key",
    ("AuditKey", "SignAndVerifyHeads"): "in a key's policy, `*` is this key",
    ("AuthorizerKey", "WrapKeysOfAuthorizers"): "in a key's policy, `*` is this key",
    ("VaultKey", "WrapVaultKeys"): "in a key's policy, `*` is this key",
    ("VaultKey", "EncryptSecrets"): "in a key's policy, `*` is this key",
    ("VaultKey", "EncryptTheTable"): "in a key's policy, `*` is this key",
    ("VaultKey", "FindTheKeyOfTheTable"): "in a key's policy, `*` is this key",
}

# `*` in an action: what DynamoDB's documentation asks for, of the table's key alone.
STAR_ACTIONS = {
    ("VaultKey", "EncryptTheTable", "kms:GenerateDataKey*"),
    ("VaultKey", "EncryptTheTable", "kms:ReEncrypt*"),
    ("VaultKey", "FindTheKeyOfTheTable", "kms:Describe*"),
    ("VaultKey", "FindTheKeyOfTheTable", "kms:Get*"),
    ("VaultKey", "FindTheKeyOfTheTable", "kms:List*"),
}

# `*` as a principal, and why.
STAR_PRINCIPALS = {
    ("VaultKey", "EncryptTheTable"): "DynamoDB acts for whoever may use the table; kms:CallerAccount holds it to the account",
}

# The variables of shared interfaces, and no others: none of them holds a secret.
VARIABLES = {
    "AGENT_IDENTITY_ACCOUNT_ID",
    "AGENT_IDENTITY_ADMIN_ROLE",
    "AGENT_IDENTITY_AGENT",
    "AGENT_IDENTITY_API_ID",
    "AGENT_IDENTITY_AUDIT_KMS_KEY_ID",
    "AGENT_IDENTITY_AUTHORIZER_KEY_PURPOSES",
    "AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID",
    "AGENT_IDENTITY_AUDIT_DAYS",
    "AGENT_IDENTITY_EGRESS_ALLOW",
    "AGENT_IDENTITY_EVENT_BUS",
    "AGENT_IDENTITY_FORMER_KMS_KEY_IDS",
    "AGENT_IDENTITY_IDENTITY_SOURCES",
    "AGENT_IDENTITY_KMS_KEY_ID",
    "AGENT_IDENTITY_PRINCIPAL",
    "AGENT_IDENTITY_PUBLIC_BASE_URL",
    "AGENT_IDENTITY_QUEUE_URL",
    "AGENT_IDENTITY_RESPONSE",
    "AGENT_IDENTITY_ROUTES",
    "AGENT_IDENTITY_SECRET_PREFIX",
    "AGENT_IDENTITY_TABLE",
    "AGENT_IDENTITY_TRUSTED_ISSUERS",
    "AGENT_IDENTITY_USAGE_METRICS",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH",
}

# Names that a secret would have, and those that only sound like it.
SECRET_NAME = re.compile(r"secret|password|passphrase|token|private|credential|api_?key|access_?key", re.IGNORECASE)
NOT_SECRET = {"SecretPrefix", "AGENT_IDENTITY_SECRET_PREFIX"}
# An access key id, a key in PEM, a JWT, or a long run of what encoders make.
SECRET_VALUE = re.compile(r"AKIA[A-Z0-9]{12}|-----BEGIN|eyJ[\w-]{8,}\.|[A-Za-z0-9+/_=-]{32,}|\{\{resolve:")


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def everything(template: dict[str, Json]) -> Decided:
    """The template with all that it can have."""
    return Decided(
        template,
        AdminRoleArn="arn:aws:iam::123456789012:role/Admin",
        AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:alarms",
        Agent="an-agent",
        AuthorizerIntrospects="true",
        AuthorizerMintsWat="true",
        CertificateArn="arn:aws:acm:us-east-1:123456789012:certificate/c",
        DomainName="identity.example.com",
        EgressAllow="10.0.0.0/8",
        HostedZoneId="Z1",
        Sample="true",
        TrustedIssuers="issuer=https://idp.example.com,audience=a",
    )


def functions(decided: Decided) -> dict[str, Json]:
    return decided.of_type("AWS::Serverless::Function")


def variables(properties: Json) -> dict[str, Json]:
    return properties.get("Environment", {}).get("Variables", {})


def all_statements(decided: Decided) -> Iterator[tuple[str, Json]]:
    """Every statement of every policy, with the resource that it belongs to."""
    for role in decided.of_type("AWS::IAM::Role"):
        for statement in statements(decided, role):
            yield role, statement
    for key, properties in decided.of_type("AWS::KMS::Key").items():
        for statement in properties["KeyPolicy"]["Statement"]:
            yield key, statement


@rule
def no_wildcard_without_a_reason(template: dict[str, Json]) -> Iterator[str]:
    for owner, statement in all_statements(everything(template)):
        sid = statement["Sid"]
        if "*" in as_list(statement["Resource"]) and (owner, sid) not in STAR_RESOURCES:
            yield f"{owner}, {sid}: any resource"
        for action in as_list(statement["Action"]):
            if "*" in action and (owner, sid, action) not in STAR_ACTIONS:
                yield f"{owner}, {sid}: any action like {action}"
        if "NotAction" in statement or "NotResource" in statement:
            yield f"{owner}, {sid}: all but some"
        if "*" in as_list(statement.get("Principal", {}).get("AWS", [])) and (owner, sid) not in STAR_PRINCIPALS:
            yield f"{owner}, {sid}: anybody"


@rule
def no_secret_in_a_parameter_or_variable(template: dict[str, Json]) -> Iterator[str]:
    for name, parameter in template["Parameters"].items():
        default = str(parameter.get("Default", ""))
        if SECRET_NAME.search(name) and name not in NOT_SECRET:
            yield f"parameter {name} sounds like a secret"
        if default and (parameter.get("NoEcho") or SECRET_VALUE.search(default)):
            yield f"the default of parameter {name} may be a secret"
    for function, properties in functions(everything(template)).items():
        for name, value in variables(properties).items():
            if name not in VARIABLES:
                yield f"{function}: unknown variable {name}"
            if SECRET_NAME.search(name) and name not in NOT_SECRET:
                yield f"{function}: variable {name} sounds like a secret"
    for function, resource in template["Resources"].items():
        for name, value in variables(resource.get("Properties", {})).items():
            if any(SECRET_VALUE.search(text) for text in literals(value)):
                yield f"{function}: the value of {name} may be a secret"


def literals(value: Json) -> Iterator[str]:
    """What the template itself says in a value: all but its references."""
    if isinstance(value, dict):
        [(name, argument)] = value.items()
        if name == "Fn::If":
            yield from literals(argument[1:])
        elif name == "Fn::Sub":
            yield re.sub(r"\$\{[^}]*\}", " ", argument)
        elif name not in ("Ref", "Fn::GetAtt"):
            raise ValueError(f"{name} is not known here")
    elif isinstance(value, list):
        for item in value:
            yield from literals(item)
    else:
        yield str(value)


@rule
def every_function_has_a_role_of_its_own(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    owners: dict[str, str] = {}
    for function, properties in functions(decided).items():
        if "Role" not in properties or "Policies" in properties:
            yield f"{function}: no role that is written out"
            continue
        role = role_of(decided, function)
        if role in owners:
            yield f"{function} and {owners[role]} share {role}"
        owners[role] = function
        trust = decided.resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if [statement["Principal"] for statement in trust] != [{"Service": "lambda.amazonaws.com"}]:
            yield f"{role}: others than Lambda may take it on"


@rule
def every_function_is_built_and_logs_alike(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    if set(functions(decided)) != set(FUNCTIONS):
        yield f"the functions are {sorted(functions(decided))}"
    groups: list[str] = []
    for function, properties in functions(decided).items():
        if properties["CodeUri"] != f"../functions/{FUNCTIONS.get(function)}":
            yield f"{function}: code at {properties['CodeUri']}"
        if decided.resources[function].get("Metadata", {}).get("BuildMethod") != "rust-cargolambda":
            yield f"{function}: not built by cargo-lambda"
        logging = properties.get("LoggingConfig", {})
        if (logging.get("LogFormat"), logging.get("SystemLogLevel")) != ("JSON", "WARN"):
            yield f"{function}: logs other than JSON, or Lambda's own lines for every request (D18)"
        group = logging.get("LogGroup", {}).get("Ref")
        if group not in decided.of_type("AWS::Logs::LogGroup") or group in groups:
            yield f"{function}: no log group of its own"
        groups.append(group)
        if not 128 <= properties.get("MemorySize", 0) <= 256:
            yield f"{function}: {properties.get('MemorySize')} MB"
    shared = template["Globals"]["Function"]
    if (shared["Runtime"], shared["Architectures"]) != ("provided.al2023", [{"Ref": "Architecture"}]):
        yield "another runtime or architecture"
    if template["Parameters"]["Architecture"] | {"Description": ""} != {
        "Description": "",
        "Type": "String",
        "AllowedValues": ["arm64", "x86_64"],
        "Default": "arm64",
    }:
        yield "the parameter Architecture"
    for name, group in decided.of_type("AWS::Logs::LogGroup").items():
        if "RetentionInDays" not in group:
            yield f"{name} is kept for ever"


@rule
def the_table_is_encrypted_recoverable_and_kept(template: dict[str, Json]) -> Iterator[str]:
    resource = everything(template).resources["Table"]
    table = resource["Properties"]
    expected = {
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": {"Fn::GetAtt": ["VaultKey", "Arn"]},
        },
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "ds", "KeyType": "HASH"},
                    {"AttributeName": "da", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }
    for name, value in expected.items():
        if table.get(name) != value:
            yield f"Table: {name} is {table.get(name)}"


@rule
def what_cannot_be_made_again_is_kept(template: dict[str, Json]) -> Iterator[str]:
    for name in ("Table", "VaultKey"):
        resource = template["Resources"][name]
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Retain", "Retain"):
            yield f"{name} goes with the stack"
    if template["Resources"]["VaultKey"]["Properties"].get("EnableKeyRotation") is not True:
        yield "VaultKey is not rotated"


@rule
def the_queue_has_dead_letters_and_time_enough(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    queues = decided.of_type("AWS::SQS::Queue")
    for name, queue in queues.items():
        if queue.get("SqsManagedSseEnabled") is not True:
            yield f"{name} is not encrypted"
    queue, refresh = queues["RefreshQueue"], functions(decided)["RefreshFunction"]
    redrive = queue.get("RedrivePolicy", {})
    if redrive.get("deadLetterTargetArn") != {"Fn::GetAtt": ["RefreshDeadLetters", "Arn"]}:
        yield "RefreshQueue has no dead letters"
    if queues["RefreshDeadLetters"].get("MessageRetentionPeriod") != 1_209_600:
        yield "dead letters are kept for less than 14 days"
    if queue["VisibilityTimeout"] < 6 * refresh["Timeout"]:
        yield "messages come back while they are worked on"
    [source] = [event["Properties"] for event in refresh["Events"].values() if event["Type"] == "SQS"]
    if source["Queue"] != {"Fn::GetAtt": ["RefreshQueue", "Arn"]}:
        yield "RefreshFunction reads another queue"
    if source.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        yield "one bad message fails the whole batch"


@rule
def a_tick_comes_every_minute(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    [schedule] = decided.of_type("AWS::Scheduler::Schedule").values()
    if schedule["ScheduleExpression"] != "rate(1 minute)" or schedule.get("State", "ENABLED") != "ENABLED":
        yield f"the schedule is {schedule['ScheduleExpression']}"
    if schedule["Target"]["Arn"] != {"Fn::GetAtt": ["RefreshFunction", "Arn"]}:
        yield "the schedule calls another function"


@rule
def only_browser_routes_and_the_metadata_are_open(template: dict[str, Json]) -> Iterator[str]:
    open_routes = BROWSER_ROUTES | {METADATA_ROUTE}
    for auth, signed, principal in (("IAM", "AWS_IAM", "iam"), ("AccessKeys", "NONE", "access-keys")):
        decided = Decided(template, Auth=auth, Sample="true")
        seen = set()
        for name, route in decided.of_type("AWS::ApiGatewayV2::Route").items():
            key = route["RouteKey"]
            seen.add(key)
            expected = "NONE" if key in open_routes else "CUSTOM" if key in AUTHORIZED_ROUTES else signed
            if route.get("AuthorizationType", "NONE") != expected:
                yield f"{auth}: {name}, {key} has {route.get('AuthorizationType')}"
            if (expected == "CUSTOM") != ("AuthorizerId" in route):
                yield f"{auth}: {name}, {key} has an authorizer that it should not have, or none"
        if missing := (open_routes | AUTHORIZED_ROUTES) - seen:
            yield f"{auth}: no routes {sorted(missing)}"
        # The same choice in both places: what API Gateway lets through unsigned, the function checks.
        for function in ("CredentialsFunction", "TokensFunction"):
            if variables(functions(decided)[function]).get("AGENT_IDENTITY_PRINCIPAL") != principal:
                yield f"{auth}: {function} asks for other principals than the routes"
            if variables(functions(decided)[function]).get("AGENT_IDENTITY_API_ID") != {"Ref": "HttpApi"}:
                yield f"{function} does not know its API"


@rule
def operations_reach_their_function(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    integrations = decided.of_type("AWS::ApiGatewayV2::Integration")
    tokens = {
        "POST /identities/GetWorkloadAccessToken",
        "POST /identities/GetWorkloadAccessTokenForJWT",
        "POST /identities/GetWorkloadAccessTokenForUserId",
        "POST /identities/oauth2/token",
        "POST /identities/api-key",
        "POST /identities/CompleteResourceTokenAuth",
        "POST /identities/ListConnections",
        "POST /identities/GetConnection",
        "POST /identities/DeleteConnection",
        "POST /identities/RetryConnection",
        "POST /identities/OffboardUser",
    } | BROWSER_ROUTES
    expected = dict.fromkeys(tokens, "TokensFunction") | {
        "POST /identities/{operation}": "CredentialsFunction",
        "ANY /tags/{resourceArn+}": "CredentialsFunction",
        "POST /identities/InvokeTool": "GatewayFunction",
        "POST /agents/{agentId}/tools/{tool}": "GatewayFunction",
        "POST /agents/{agentId}/mcp": "GatewayFunction",
        METADATA_ROUTE: "GatewayFunction",
        "GET /sample": "SampleFunction",
    }
    found = {}
    for route in decided.of_type("AWS::ApiGatewayV2::Route").values():
        [integration] = re.findall(r"\$\{(\w+)\}", route["Target"]["Fn::Sub"])
        properties = integrations[integration]
        [function] = re.findall(r"\$\{(\w+Function)\.Arn\}", properties["IntegrationUri"]["Fn::Sub"])
        found[route["RouteKey"]] = function
        if properties.get("PayloadFormatVersion") != "2.0":
            yield f"{integration}: payload {properties.get('PayloadFormatVersion')}"
    if found != expected:
        yield f"routes: {sorted(found.items() ^ expected.items())}"


@rule
def an_authorizer_depends_on_what_it_says(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    for name, authorizer in decided.of_type("AWS::ApiGatewayV2::Authorizer").items():
        sources = [source.lower() for source in authorizer.get("IdentitySource", [])]
        routes = [
            route["RouteKey"] for route in decided.of_type("AWS::ApiGatewayV2::Route").values()
            if route.get("AuthorizerId") == {"Ref": name}
        ]  # fmt: skip
        # A path is no identity source here: who goes by it has nothing cached.
        by_path = bool(routes) and all("/{agentId}/" in route for route in routes)
        if by_path and authorizer.get("AuthorizerResultTtlInSeconds") != 0:
            yield f"{name}: the agent in the path is not in the key of what is cached (D14)"
        for needed in ("$request.header.authorization", *([] if by_path else ["$request.header.x-agent-id"])):
            if needed not in sources:
                yield f"{name}: {needed} is no identity source (D14)"
        if authorizer.get("AuthorizerPayloadFormatVersion") != "2.0":
            yield f"{name}: payload {authorizer.get('AuthorizerPayloadFormatVersion')}"
        if "AuthorizerResultTtlInSeconds" not in authorizer:
            yield f"{name}: AWS chooses how long answers are cached"
        if authorizer.get("EnableSimpleResponses") and authorizer.get("AuthorizerResultTtlInSeconds") != 0:
            yield f"{name}: simple responses are cached (D14)"


@rule
def nobody_but_the_api_calls_its_functions(template: dict[str, Json]) -> Iterator[str]:
    for name, permission in everything(template).of_type("AWS::Lambda::Permission").items():
        source = name_of(permission.get("SourceArn", ""))
        if permission["Principal"] != "apigateway.amazonaws.com" or "${HttpApi}/" not in source:
            yield f"{name}: {permission['Principal']} from {source or 'anywhere'}"


@rule
def rows_are_held_to_their_kinds(template: dict[str, Json]) -> Iterator[str]:
    for owner, statement in all_statements(everything(template)):
        if not any(action.startswith("dynamodb:") for action in as_list(statement["Action"])):
            continue
        conditions = statement.get("Condition", {})
        if conditions.get("Null") != {"dynamodb:LeadingKeys": "false"}:
            yield f"{owner}, {statement['Sid']}: a request without a key passes"
        patterns = conditions.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [])
        if not patterns or not all(re.fullmatch(r"[a-z0-9-]+#\*", pattern) for pattern in patterns):
            yield f"{owner}, {statement['Sid']}: partitions {patterns} (D16)"
        if "dynamodb:Scan" in as_list(statement["Action"]):
            yield f"{owner}, {statement['Sid']}: Scan has no key to be held to"


@rule
def secrets_and_keys_of_others_are_tagged(template: dict[str, Json]) -> Iterator[str]:
    for owner, statement in all_statements(everything(template)):
        for resource in as_list(statement["Resource"]):
            if not re.search(r":(secret:|key/)\*$", name_of(resource)):
                continue
            if statement.get("Condition", {}).get("Null") != {"aws:ResourceTag/agent-identity:provider": "false"}:
                yield f"{owner}, {statement['Sid']}: {name_of(resource)} without the tag (D2)"


@rule
def requests_are_limited(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    [stage] = decided.of_type("AWS::ApiGatewayV2::Stage").values()
    settings = {"all": stage.get("DefaultRouteSettings", {})} | {
        route: stage.get("RouteSettings", {}).get(route, {}) for route in BROWSER_ROUTES
    }
    for name, limits in settings.items():
        if not limits.get("ThrottlingRateLimit") or not limits.get("ThrottlingBurstLimit"):
            yield f"{name}: no limit"
    if stage["StageName"] != "$default":
        yield "the stage's name is in the callbacks that providers know"


@rule
def what_goes_wrong_is_seen(template: dict[str, Json]) -> Iterator[str]:
    decided = everything(template)
    alarms = decided.of_type("AWS::CloudWatch::Alarm")
    for what, needed in {
        "dead letters": ("AWS/SQS", "RefreshDeadLetters"),
        "refresh failures": ("Errors", '{"Ref": "RefreshFunction"}', "-RefreshFailures"),
        "authorizer errors": ("Errors", '{"Ref": "AuthorizerFunction"}'),
        "throttles": ("Throttles", "WriteThrottleEvents"),
    }.items():
        if not any(all(part in json.dumps(alarm) for part in needed) for alarm in alarms.values()):
            yield f"no alarm of {what}"
    filters = decided.of_type("AWS::Logs::MetricFilter").values()
    if not any(found["LogGroupName"] == {"Ref": "RefreshLogs"} and "ERROR" in found["FilterPattern"] for found in filters):
        yield "messages that fail are not counted: the function that reports them succeeds"
    for name, alarm in alarms.items():
        if not alarm.get("AlarmActions"):
            yield f"{name} tells nobody"
        if not alarm.get("AlarmDescription"):
            yield f"{name} does not say what to do"
    [dashboard] = decided.of_type("AWS::CloudWatch::Dashboard").values()
    body = json.loads(re.sub(r"\$\{[^}]*\}", "x", dashboard["DashboardBody"]["Fn::Sub"]))
    if not body["widgets"]:
        yield "the dashboard is empty"


@rule
def others_find_what_they_need(template: dict[str, Json]) -> Iterator[str]:
    expected = {"ApiUrl", "AuthorizerFunctionArn", "TableName"}
    if missing := expected - set(template["Outputs"]):
        yield f"no outputs {sorted(missing)}"
    ids = {"HttpApi", "Table", "VaultKey", "RefreshQueue", "RefreshDeadLetters"} | set(FUNCTIONS)
    if missing := ids - set(template["Resources"]):
        yield f"no resources {sorted(missing)}"
