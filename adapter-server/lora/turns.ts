/** Lets a few run at one time; the others wait their turn, and nobody waits for ever. */

type Waiting = { start: () => void };

export class Turns {
  readonly #max: number;
  readonly #waiting: Waiting[] = [];
  #running = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /**
   * @param limit how long waiting and running may take together, and what is thrown when they take longer. Whoever
   *   runs on after that keeps its turn, since what it holds of the machine it still holds.
   */
  run<T>(work: () => Promise<T>, limit: { msMax: number; late: () => Error }): Promise<T> {
    return new Promise((resolve, reject) => {
      const start = () => {
        this.#running++;
        work()
          .then(resolve, reject)
          .finally(() => {
            clearTimeout(timer);
            this.#running--;
            this.#waiting.shift()?.start();
          });
      };
      const waiting: Waiting = { start };
      const timer = setTimeout(() => {
        const at = this.#waiting.indexOf(waiting);
        if (at !== -1) this.#waiting.splice(at, 1);
        reject(limit.late());
      }, limit.msMax);
      timer.unref();
      if (this.#running < this.#max) start();
      else this.#waiting.push(waiting);
    });
  }
}
