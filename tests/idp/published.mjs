// What the issuer publishes, its metadata and its keys: how often each was asked for, and troubles with them.
const DOCUMENTS = { '/.well-known/openid-configuration': 'metadata', '/jwks': 'keys' };

export function watchPublished(openid) {
  const state = { counts: { metadata: 0, keys: 0 }, troubles: {} };

  const answer = (request, response) => {
    const document = DOCUMENTS[request.url];
    if (!document) return openid(request, response);
    state.counts[document] += 1;
    const trouble = state.troubles[document] ?? { kind: 'none' };
    switch (trouble.kind) {
      case 'status':
        return response.writeHead(trouble.status ?? 503).end();
      case 'slow':
        return setTimeout(() => openid(request, response), trouble.milliseconds);
      case 'large':
        response.writeHead(200, { 'content-type': 'application/json' });
        return response.end(JSON.stringify({ keys: [], padding: 'x'.repeat(trouble.bytes) }));
      case 'redirect':
        return response.writeHead(302, { location: trouble.to }).end();
      case 'text':
        response.writeHead(200, { 'content-type': 'application/json' });
        return response.end(trouble.text);
      default:
        return openid(request, response);
    }
  };
  return { answer, state };
}
