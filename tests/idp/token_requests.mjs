// What reached the token endpoint and what was answered, without any secret, and the switches that make
// the endpoint misbehave on purpose.
import { createHash } from 'node:crypto';

export class TokenRequestLog {
  entries = [];
  reuseDetections = 0;
  apiKeys = new Set();
  trouble = { kind: 'none', remaining: 0, milliseconds: 0, status: 503 };
  accessTokenTtl = 3600;
  behaviours = new Map();
  /** Logins that the provider has forgotten, for a while. */
  missingAccounts = new Set();

  /** {accessTokenTtl?, keepsRefreshToken?, answersAfter?, reuseGrace?} of one client; milliseconds pass between commit and answer. */
  behaviourOf(client) {
    return this.behaviours.get(client?.clientId) ?? {};
  }

  /** Seconds that an access token of this client lives. */
  lifetimeFor(client) {
    return this.behaviourOf(client).accessTokenTtl ?? this.accessTokenTtl;
  }

  /** How many requests arrived, by grant type; `refused` counts those that were answered with an error. */
  counters() {
    const byGrant = {};
    let refused = 0;
    for (const entry of this.entries) {
      byGrant[entry.grantType] = (byGrant[entry.grantType] ?? 0) + 1;
      if (entry.error) refused += 1;
    }
    return { ...byGrant, total: this.entries.length, refused, reuse_detections: this.reuseDetections };
  }

  /** The trouble that this request has to suffer, counted down. */
  takeTrouble() {
    const { kind, remaining } = this.trouble;
    if (kind === 'none' || remaining <= 0) return { kind: 'none' };
    this.trouble.remaining -= 1;
    return { ...this.trouble };
  }

  reset() {
    this.entries = [];
    this.reuseDetections = 0;
    this.trouble = { kind: 'none', remaining: 0, milliseconds: 0, status: 503 };
    this.accessTokenTtl = 3600;
    this.behaviours.clear();
    this.missingAccounts.clear();
  }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Which token it was, without showing it. */
function digest(token) {
  return token && createHash('sha256').update(token).digest('hex').slice(0, 16);
}

function authenticationOf(ctx) {
  if (ctx.get('authorization').startsWith('Basic ')) return 'client_secret_basic';
  const params = ctx.oidc?.params ?? {};
  if (params.client_assertion) return 'private_key_jwt';
  if (params.client_secret) return 'client_secret_post';
  return 'none';
}

/** The `kid` in the header of the client's assertion, if it sent one. */
function assertionKid(params) {
  if (!params.client_assertion) return undefined;
  return JSON.parse(Buffer.from(params.client_assertion.split('.')[0], 'base64url')).kid;
}

/** Koa middleware around the provider: `slow` waits first, `status` never reaches the grant, `drop` commits and hangs up. */
export function recordTokenRequests(log) {
  return async (ctx, next) => {
    if (ctx.path !== '/token') return next();
    const trouble = log.takeTrouble();
    const entry = { at: Date.now(), grantType: 'unread', trouble: trouble.kind };
    log.entries.push(entry);
    if (trouble.kind === 'slow') await sleep(trouble.milliseconds);
    if (trouble.kind === 'status') {
      ctx.status = trouble.status;
      ctx.body = 'the provider is in trouble';
      entry.status = trouble.status;
      return undefined;
    }
    await next();
    const committedAt = Date.now();
    const { answersAfter } = log.behaviourOf(ctx.oidc?.client);
    if (answersAfter) await sleep(answersAfter);
    const params = ctx.oidc?.params ?? {};
    Object.assign(entry, {
      grantType: params.grant_type ?? 'missing',
      clientId: ctx.oidc?.client?.clientId,
      authentication: authenticationOf(ctx),
      assertionKid: assertionKid(params),
      scope: params.scope,
      resource: params.resource,
      redirectUri: params.redirect_uri,
      hasCodeVerifier: params.code_verifier !== undefined,
      hasRefreshToken: params.refresh_token !== undefined,
      parameters: Object.keys(params).filter((name) => params[name] !== undefined).sort(),
      status: ctx.status,
      error: ctx.body?.error,
      committedAt,
      presented: digest(params.refresh_token),
      issued: digest(ctx.body?.refresh_token),
    });
    if (trouble.kind === 'drop') {
      ctx.respond = false;
      ctx.req.socket.destroy();
    }
    return undefined;
  };
}
