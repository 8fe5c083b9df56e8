/** How the emulated models' texts are cut into the deltas of a stream. */

export type Pieces = (text: string) => string[];

/** A word with the space before it stands for a token. */
export const words: Pieces = (text) => text.match(/\s*\S+|\s+$/g) ?? [];

/** A token as small as they come, so that everything is cut everywhere. */
export const letters: Pieces = (text) => [...text];
