// Starts the provider, its control routes and the protected API on one ephemeral loopback port,
// and prints `{"port": …}` as one line when it listens. Usage: node server.mjs CONFIG.json
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

import { createControl } from './control.mjs';
import { createProvider } from './provider.mjs';
import { createProtectedApi } from './protected_api.mjs';
import { TokenRequestLog } from './token_requests.mjs';

const config = JSON.parse(await readFile(process.argv[2], 'utf8'));
let handle = (_request, response) => response.writeHead(503).end();
const server = createServer((request, response) => handle(request, response));

server.listen(config.port ?? 0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `http://127.0.0.1:${port}`;
  const log = new TokenRequestLog();
  const { provider, issued, Storage } = createProvider({ issuer, config, log });
  const control = createControl({ provider, issued, Storage, log });
  const api = createProtectedApi({ issuer, apiKeys: log.apiKeys });
  const openid = provider.callback();

  handle = (request, response) => {
    if (request.url.startsWith('/control/')) return control(request, response);
    if (request.url.startsWith('/api/')) return api(request, response);
    return openid(request, response);
  };
  process.stdout.write(`${JSON.stringify({ port })}\n`);
});

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.closeAllConnections();
    server.close(() => process.exit(0));
  });
}
