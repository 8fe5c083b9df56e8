/** Headers by which a gateway tells the registry what only it can know. Clients' own never get that far. */

/** The operator's key, which says that the other one is a gateway's word. */
export const vouchingHeader = "x-switchyard-operator";
export const clientAddressHeader = "x-switchyard-client-address";
/** `sealed`: the gateway has a key to seal contents with, so a project may consent to their being kept. */
export const contentLogHeader = "x-switchyard-content-log";
