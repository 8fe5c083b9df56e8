/** Which buttons a reader sees. The API decides what each may do: a test holds this against its table of roles. */

const mayList = ["developer", "admin", "owner"];
const mayMake = ["owner"];
const mayRevoke = ["admin", "owner"];
const mayBound = ["admin", "owner"];
const maySpend = ["finance", "admin", "owner"];
const mayManageAdmins = ["owner"];

/**
 * What somebody may do with the keys of a project, its limits (`bound`) and its spend limit (`spend`).
 * @typedef {{ list: boolean, make: boolean, rotate: boolean, revoke: boolean, bound: boolean, spend: boolean }} Rights
 * @param {any} who what `/api/whoami` tells
 * @param {string} projectId
 * @returns {Rights}
 */
export function rightsOver(who, projectId) {
  if (who.role === "admin") return { ...all, bound: true, spend: true };
  const { user } = who;
  if (!user) return none;
  const owns = user.projects.some(
    (/** @type {any} */ it) => it.id === projectId && it.role === "owner",
  );
  return {
    list: owns || mayList.includes(user.role),
    make: mayMake.includes(user.role),
    rotate: mayMake.includes(user.role),
    revoke: owns || mayRevoke.includes(user.role),
    bound: mayBound.includes(user.role),
    spend: maySpend.includes(user.role),
  };
}

/** @param {any} who what `/api/whoami` tells @returns {Rights} */
export function rightsOverAdminKeys({ role, user }) {
  return role === "admin" || mayManageAdmins.includes(user?.role) ? all : none;
}

const all = { list: true, make: true, rotate: true, revoke: true, bound: false, spend: false };
const none = { list: false, make: false, rotate: false, revoke: false, bound: false, spend: false };

/** What stands in the list of keys for one. @param {any} key @param {number} nowMs */
export function stateOf({ revokedAt, expiresAt, suspendedAt, previousUntil }, nowMs) {
  if (revokedAt) return "revoked";
  if (expiresAt && Date.parse(expiresAt) <= nowMs) return "expired";
  if (suspendedAt) return "suspended";
  return previousUntil && Date.parse(previousUntil) > nowMs ? "rotating" : "active";
}
