// Storage without the size limit of the built-in adapter, whose eviction would look like a lost refresh token.
// `issued` keeps every opaque token that was ever handed out, so that logs can be searched for them.
const SECRET_MODELS = new Set(['AccessToken', 'AuthorizationCode', 'ClientCredentials', 'RefreshToken']);

/** `graceOf` says for how many seconds a client's superseded refresh tokens are still taken. */
export function storageAdapter(graceOf = () => 0) {
  const rows = new Map();
  const membersOfGrant = new Map();
  const issued = new Set();

  class Rows {
    constructor(model) {
      this.model = model;
    }

    key(id) {
      return `${this.model}:${id}`;
    }

    async upsert(id, payload, expiresIn) {
      const key = this.key(id);
      const endsAt = expiresIn === undefined ? Infinity : Date.now() + expiresIn * 1000;
      rows.set(key, { payload, endsAt });
      if (this.model === 'Session') rows.set(`uid:${payload.uid}`, { payload: id, endsAt });
      if (SECRET_MODELS.has(this.model)) {
        issued.add(id);
        if (payload.grantId) {
          const members = membersOfGrant.get(payload.grantId) ?? new Set();
          membersOfGrant.set(payload.grantId, members.add(key));
        }
      }
    }

    async find(id) {
      const row = rows.get(this.key(id));
      if (!row || row.endsAt <= Date.now()) return undefined;
      const within = this.model === 'RefreshToken' && row.consumedAt + graceOf(row.payload.clientId) * 1000 > Date.now();
      return within ? { ...row.payload, consumed: undefined } : row.payload;
    }

    async findByUid(uid) {
      return this.find(rows.get(`uid:${uid}`)?.payload);
    }

    async findByUserCode() {
      return undefined;
    }

    async consume(id) {
      const row = rows.get(this.key(id));
      if (!row) return;
      row.payload.consumed = Math.floor(Date.now() / 1000);
      row.consumedAt ??= Date.now();
    }

    async destroy(id) {
      rows.delete(this.key(id));
    }

    async revokeByGrantId(grantId) {
      for (const key of membersOfGrant.get(grantId) ?? []) rows.delete(key);
      membersOfGrant.delete(grantId);
    }
  }

  return { adapter: Rows, issued };
}
