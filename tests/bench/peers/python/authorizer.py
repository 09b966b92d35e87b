"""A Lambda authorizer with PyJWT: REST TOKEN events, RS256, claims checked, keys cached. The loop below stands for Lambda's own
runtime client, which speaks the same protocol over the same kind of connection.
"""

import http.client
import json
import os
import time

import jwt

ISSUER, AUDIENCE = os.environ["ISSUER"], os.environ["AUDIENCE"]
# As from its cache of an issuer's keys.
KEYS = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(os.environ["JWKS"])).keys}


def handler(event):
    token = event["authorizationToken"].removeprefix("Bearer ")
    try:
        key = KEYS[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip
    except (jwt.PyJWTError, KeyError) as error:
        raise PermissionError("Unauthorized") from error
    resource = "/".join(event["methodArn"].split("/")[:2]) + "/*"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"level": "INFO", "message": "authorized", "outcome": "allowed", "timestamp": now}), flush=True)
    return {
        "principalId": claims["sub"],
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": resource}],
        },
        "context": {"issuer": claims["iss"], "subject": claims["sub"], "expiresAt": claims["exp"]},
    }


def main():
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def call(method, path, body=None):
        connection.request(method, f"/2018-06-01/runtime/{path}", body)
        response = connection.getresponse()
        return response.headers, response.read()

    while True:
        headers, event = call("GET", "invocation/next")
        path = f"invocation/{headers['Lambda-Runtime-Aws-Request-Id']}"
        try:
            call("POST", f"{path}/response", json.dumps(handler(json.loads(event))))
        except PermissionError as error:
            failure = {"errorType": type(error).__name__, "errorMessage": str(error)}
            call("POST", f"{path}/error", json.dumps(failure))


if __name__ == "__main__":
    main()
