/** What the response cache holds, for Prometheus. */
import { Gauge, type Registry } from "prom-client";
import type { CacheFigures, ResponseCacheStore } from "./store.ts";

/** While the store is away there are no figures, rather than zeros. */
export function addCacheMetrics(registry: Registry, store: ResponseCacheStore): void {
  const gauges: [name: string, help: string, figure: keyof CacheFigures][] = [
    ["gateway_response_cache_entries", "Answers that are kept.", "entries"],
    ["gateway_response_cache_bytes", "How large the kept answers are together.", "bytes"],
    [
      "gateway_response_cache_evictions",
      "Answers that had to go before their time, for want of room.",
      "evicted",
    ],
  ];
  for (const [name, help, figure] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const figures = await store.figures().catch(() => undefined);
        if (figures) this.set(figures[figure]);
        else this.reset();
      },
    });
  }
}
