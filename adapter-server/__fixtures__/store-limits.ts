/** Bounds of an adapter store that no test comes near. */
export const storeLimits = {
  hostBytesMax: 1 << 30,
  roomWaitMsMax: 30_000,
  fileBytesMax: 1 << 30,
  fetchesMax: 8,
  fetchMsMax: 30_000,
  acquiringMax: 8,
  namesMax: 64,
  nowMs: () => performance.now(),
};
