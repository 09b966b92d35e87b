// Starts the provider, its control routes and the protected API on one ephemeral loopback port,
// and prints `{"port": …}` as one line when it listens. Usage: node server.mjs CONFIG.json
// With `host` and `tls` = {key, cert} it is on that address, by https.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

import { createControl } from './control.mjs';
import { createProvider } from './provider.mjs';
import { createProtectedApi } from './protected_api.mjs';
import { watchPublished } from './published.mjs';
import { TokenRequestLog } from './token_requests.mjs';

const config = JSON.parse(await readFile(process.argv[2], 'utf8'));
let handle = (_request, response) => response.writeHead(503).end();
const host = config.host ?? '127.0.0.1';
const listener = (request, response) => handle(request, response);
const server = config.tls ? createTlsServer(config.tls, listener) : createServer(listener);

server.listen(config.port ?? 0, host, () => {
  const { port } = server.address();
  const issuer = `${config.tls ? 'https' : 'http'}://${host}:${port}`;
  const log = new TokenRequestLog();
  const { provider, issued, Storage } = createProvider({ issuer, config, log });
  // Other keys make another provider: `oidc-provider` takes them once.
  let openid = provider.callback();
  const setKeys = (jwks) => {
    openid = createProvider({ issuer, config: { ...config, jwks }, log }).provider.callback();
  };
  const published = watchPublished((request, response) => openid(request, response));
  const control = createControl({ provider, issued, Storage, log, setKeys, published: published.state });
  const api = createProtectedApi({ issuer, apiKeys: log.apiKeys });

  handle = (request, response) => {
    if (request.url.startsWith('/control/')) return control(request, response);
    if (request.url.startsWith('/api/')) return api(request, response);
    return published.answer(request, response);
  };
  process.stdout.write(`${JSON.stringify({ port })}\n`);
});

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.closeAllConnections();
    server.close(() => process.exit(0));
  });
}
