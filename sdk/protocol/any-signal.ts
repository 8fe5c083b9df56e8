/** A signal that is aborted as soon as one of others is. */

/**
 * As `AbortSignal.any`, whose signal does not hold those that it follows: a timeout that nobody else holds is collected and never comes,
 * and an abort may be lost with the controller that it came from (nodejs/node#57736, #65995). Here they live as long as it does.
 */
export function anySignal(signals: readonly AbortSignal[]): AbortSignal {
  // biome-ignore lint/plugin: the one place that holds what is followed
  const any = AbortSignal.any([...signals]);
  followed.set(any, signals);
  return any;
}

const followed = new WeakMap<AbortSignal, readonly AbortSignal[]>();
