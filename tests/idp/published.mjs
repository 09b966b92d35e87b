// What the issuer publishes, its metadata and its keys, and what it is asked about tokens: how often each was asked for, and
// troubles with them.
import { suffer } from './trouble.mjs';

const DOCUMENTS = { '/.well-known/openid-configuration': 'metadata', '/jwks': 'keys' };
const ASKED = { '/token/introspection': 'introspection', '/token/revocation': 'revocation' };

export function watchPublished(openid) {
  const unasked = () => ({ count: 0, trouble: {} });
  const state = { counts: { metadata: 0, keys: 0 }, troubles: {}, introspection: unasked(), revocation: unasked() };

  const answer = (request, response) => {
    const proceed = () => openid(request, response);
    const asked = state[ASKED[request.url]];
    if (asked) {
      asked.count += 1;
      return suffer(asked.trouble, response, proceed);
    }
    const document = DOCUMENTS[request.url];
    if (!document) return proceed();
    state.counts[document] += 1;
    return suffer(state.troubles[document], response, proceed);
  };
  return { answer, state };
}
