// Routes for the tests alone: counters, the log of token requests, switches, more clients.
async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

export function createControl({ provider, issued, Storage, log, setKeys, published }) {
  const routes = {
    'GET /control/counters': () => log.counters(),
    'GET /control/token-requests': () => log.entries,
    'GET /control/issued': () => [...issued],
    'POST /control/reset': () => {
      log.reset();
      return {};
    },
    /** {kind: slow|status|drop|none, remaining, milliseconds?, status?}: what the next token requests suffer */
    'POST /control/trouble': (body) => {
      log.trouble = { kind: 'none', remaining: 0, milliseconds: 0, status: 503, ...body };
      return log.trouble;
    },
    'POST /control/access-token-ttl': ({ seconds }) => {
      log.accessTokenTtl = seconds;
      return { seconds };
    },
    'POST /control/client-behaviour': ({ clientId, ...behaviour }) => {
      log.behaviours.set(clientId, behaviour);
      return behaviour;
    },
    /** {login, missing}: whether the provider forgets who that is, for a while */
    'POST /control/missing-account': ({ login, missing }) => {
      if (missing) log.missingAccounts.add(login);
      else log.missingAccounts.delete(login);
      return { missing };
    },
    'POST /control/api-keys': ({ key }) => {
      log.apiKeys.add(key);
      return {};
    },
    /** {keys: […]}: the private keys of the issuer from now on */
    'POST /control/keys': (jwks) => {
      setKeys(jwks);
      return {};
    },
    'GET /control/published': () => published.counts,
    /** {metadata?, keys?}: {kind: status|slow|large|redirect|text|none, …}, until it is changed */
    'POST /control/published-trouble': (troubles) => {
      published.troubles = troubles;
      return troubles;
    },
    /** How often the introspection endpoint was asked. */
    'GET /control/introspections': () => ({ count: published.introspection.count }),
    /** {kind: status|slow|large|redirect|text|none, …}: what the introspection endpoint suffers, until it is changed */
    'POST /control/introspection-trouble': (trouble) => {
      published.introspection.trouble = trouble;
      return trouble;
    },
    /** The same for the revocation endpoint. */
    'POST /control/revocation-trouble': (trouble) => {
      published.revocation.trouble = trouble;
      return trouble;
    },
    'POST /control/clients': async (metadata) => {
      await new Storage('Client').upsert(metadata.client_id, metadata);
      // Finding it makes the provider check the metadata, so that a mistake shows here.
      const client = await provider.Client.find(metadata.client_id);
      return { client_id: client.clientId };
    },
    'POST /control/revoke-grants-of': async ({ refreshTokenOf }) => {
      let revoked = 0;
      for (const id of issued) {
        const token = await provider.RefreshToken.find(id);
        if (token?.accountId === refreshTokenOf) {
          await token.destroy();
          revoked += 1;
        }
      }
      return { revoked };
    },
  };

  return async (request, response) => {
    const route = routes[`${request.method} ${request.url}`];
    try {
      const answer = route ? await route(await bodyOf(request)) : { error: 'no such control route' };
      response.writeHead(route ? 200 : 404, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    } catch (error) {
      response.writeHead(500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: String(error.error_description ?? error.message) }));
    }
  };
}
