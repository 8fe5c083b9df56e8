/** Makes the series of one registry. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

type Labelled = { help: string; labelNames?: readonly string[] };

export class Series {
  readonly #registers: Registry[];

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  counter(name: string, { help, labelNames = [] }: Labelled): Counter<string> {
    return new Counter({ name, help, labelNames, registers: this.#registers });
  }

  histogram(
    name: string,
    { help, labelNames = [], buckets }: Labelled & { buckets: readonly number[] },
  ): Histogram<string> {
    return new Histogram({
      name,
      help,
      labelNames,
      buckets: [...buckets],
      registers: this.#registers,
    });
  }

  /** One number, read when somebody looks. */
  value(name: string, help: string, read: () => number): void {
    this.gauge(name, { help }, (gauge) => gauge.set(read()));
  }

  /** One number that only grows, counted elsewhere. */
  total(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  gauge(
    name: string,
    { help, labelNames = [] }: Labelled,
    collect: (gauge: Gauge<string>) => void,
  ): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers: this.#registers,
      collect() {
        collect(this);
      },
    });
  }
}
