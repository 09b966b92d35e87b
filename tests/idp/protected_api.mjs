// The third-party service that the agent calls: one route wants a Bearer token (introspected at the provider,
// or a JWT checked against its keys), another an API key.
import { createRemoteJWKSet, jwtVerify } from 'jose';

async function introspect(issuer, token) {
  const answer = await fetch(`${issuer}/token/introspection`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from('protected-api:protected-api-introspection-secret').toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({ token }),
  });
  const claims = await answer.json();
  return claims.active ? claims : undefined;
}

export function createProtectedApi({ issuer, apiKeys }) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

  async function claimsOf(token) {
    if (token.split('.').length !== 3) return introspect(issuer, token);
    try {
      return (await jwtVerify(token, keys, { issuer })).payload;
    } catch {
      return undefined;
    }
  }

  return async (request, response) => {
    const answer = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (request.url === '/api/weather') {
      const known = apiKeys.has(request.headers['x-api-key']);
      return known ? answer(200, { weather: 'sunny' }) : answer(401, { error: 'unknown API key' });
    }
    const [scheme, token] = (request.headers.authorization ?? '').split(' ');
    const claims = scheme === 'Bearer' && token ? await claimsOf(token) : undefined;
    if (!claims) return answer(401, { error: 'invalid token' });
    return answer(200, { subject: claims.sub ?? null, client: claims.client_id, scope: claims.scope ?? '' });
  };
}
