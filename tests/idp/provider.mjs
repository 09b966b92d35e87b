// The OpenID provider: npm `oidc-provider` with PKCE required, consent pages, rotating refresh tokens with
// reuse detection, and JWT access tokens when a resource is named.
import Provider from 'oidc-provider';

import { storageAdapter } from './storage.mjs';
import { recordTokenRequests } from './token_requests.mjs';

const SCOPES = ['openid', 'offline_access', 'email', 'profile', 'things.read', 'things.write'];

export function createProvider({ issuer, config, log }) {
  const { adapter, issued } = storageAdapter((clientId) => log.behaviourOf({ clientId }).reuseGrace ?? 0);
  log.accessTokenTtl = config.accessTokenTtl ?? 3600;
  const lifetime = (_ctx, _token, client) => log.lifetimeFor(client);

  const provider = new Provider(issuer, {
    adapter,
    clients: [...(config.clients ?? []), {
      client_id: 'protected-api',
      client_secret: 'protected-api-introspection-secret',
      grant_types: [],
      redirect_uris: [],
      response_types: [],
    }],
    jwks: config.jwks,
    cookies: { keys: ['only-for-tests'] },
    scopes: SCOPES,
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
    pkce: { required: () => true },
    rotateRefreshToken: (ctx) => !log.behaviourOf(ctx.oidc.client).keepsRefreshToken,
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    conformIdTokenClaims: false,
    findAccount: (_ctx, login) => (log.missingAccounts.has(login) ? undefined : {
      accountId: login,
      claims: () => ({ sub: login, email: `${login}@example.com`, name: login }),
    }),
    ttl: {
      AccessToken: lifetime,
      ClientCredentials: lifetime,
      AuthorizationCode: 60,
      Grant: 86_400,
      IdToken: 3600,
      Interaction: 3600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource, client) => ({
          scope: SCOPES.join(' '),
          audience: resource,
          accessTokenTTL: log.lifetimeFor(client),
          accessTokenFormat: 'jwt',
        }),
      },
    },
    renderError: (ctx, out) => {
      ctx.type = 'text/plain';
      ctx.body = `${out.error}: ${out.error_description ?? ''}`;
    },
  });

  provider.use(recordTokenRequests(log));
  provider.on('grant.error', (_ctx, error) => {
    if (/already (used|consumed)/.test(error.error_detail ?? '')) log.reuseDetections += 1;
  });
  provider.on('server_error', (_ctx, error) => process.stderr.write(`${error.stack}\n`));
  return { provider, issued, Storage: adapter };
}
