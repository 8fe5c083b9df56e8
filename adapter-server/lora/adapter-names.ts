/** What an adapter may be called: a name is fit for logs, metric labels and file names as it is. */

/**
 * Whether a name may be given to an adapter. Only ASCII, so that no two names look alike; no separators, so
 * that none is a path; neither a device of Windows nor a property that every JavaScript object has.
 */
export function isAdapterName(name: string): boolean {
  return shape.test(name) && !windowsDevice.test(name) && !(name in Object.prototype);
}

const shape = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?$/;
const windowsDevice = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/i;
