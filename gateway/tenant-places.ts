/** Places of one process that projects share, of which one project has no more than its part. */
import { HubError } from "../sdk/protocol/errors.ts";

export type TenantPlacesOptions = {
  /** Of all projects, and of one. */
  max: number;
  perProjectMax: number;
  /** What takes them, in the plural, for the messages. */
  what: string;
};

export class TenantPlaces {
  readonly #options: TenantPlacesOptions;
  /** Only of projects that have any. */
  readonly #taken = new Map<string, number>();
  #all = 0;

  constructor(options: TenantPlacesOptions) {
    this.#options = options;
  }

  /**
   * @returns gives the place back; a second call changes nothing
   * @throws HubError `rate_limit_exceeded` when the project has its part, `server_is_overloaded` when there is no place
   */
  take(projectId: string): () => void {
    const { max, perProjectMax, what } = this.#options;
    const own = this.#taken.get(projectId) ?? 0;
    if (own >= perProjectMax) {
      throw new HubError(
        "rate_limit_exceeded",
        `This project has ${perProjectMax} ${what} under way, which is the most it may have at one time.`,
        { retryAfterMs },
      );
    }
    if (this.#all >= max) {
      throw new HubError(
        "server_is_overloaded",
        `This gateway has ${max} ${what} under way, which is the most it takes.`,
        { retryAfterMs },
      );
    }
    this.#taken.set(projectId, own + 1);
    this.#all++;
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      this.#all--;
      const left = (this.#taken.get(projectId) ?? 1) - 1;
      if (left > 0) this.#taken.set(projectId, left);
      else this.#taken.delete(projectId);
    };
  }

  /** Holds a place until the work is over. @throws HubError as `take` does */
  async admit<T>(projectId: string, work: () => Promise<T>): Promise<T> {
    const leave = this.take(projectId);
    try {
      return await work();
    } finally {
      leave();
    }
  }
}

const retryAfterMs = 1000;
