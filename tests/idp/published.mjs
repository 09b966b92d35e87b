// What the issuer publishes, its metadata and its keys, and what it is asked about tokens: how often each was asked for, and
// troubles with them.
import { suffer } from './trouble.mjs';

const DOCUMENTS = { '/.well-known/openid-configuration': 'metadata', '/jwks': 'keys' };
const INTROSPECTION = '/token/introspection';

export function watchPublished(openid) {
  const state = { counts: { metadata: 0, keys: 0 }, troubles: {}, introspection: { count: 0, trouble: {} } };

  const answer = (request, response) => {
    const proceed = () => openid(request, response);
    if (request.url === INTROSPECTION) {
      state.introspection.count += 1;
      return suffer(state.introspection.trouble, response, proceed);
    }
    const document = DOCUMENTS[request.url];
    if (!document) return proceed();
    state.counts[document] += 1;
    return suffer(state.troubles[document], response, proceed);
  };
  return { answer, state };
}
