import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { findBrowser } from "../../test/support/optional-parts.ts";
import { meteringLimits } from "../metering/config.ts";
import { openMetering } from "../metering/metering.ts";
import {
  testPrices,
  testPrincipal,
  testReserve,
  testSettlement,
  withFolder,
} from "../metering/testing.ts";
import type { Settlement } from "../metering/types.ts";
import { createReports } from "../reports/reports.ts";
import { createDashboard } from "./dashboard.ts";

const executablePath = findBrowser();
const missing = executablePath ? undefined : "no browser is installed (CHROMIUM names one)";
/** A folder where screenshots are left to be looked at. */
const screenshots = process.env.TEST_SCREENSHOTS;

describe.skipIf(missing !== undefined)(missing ?? "in Chromium", () => {
  let database: TestDatabase;
  let browser: Browser;
  let server: ReturnType<typeof createServer>;
  let origin: string;

  beforeAll(async () => {
    database = await openTestDatabase();
    server = createServer(getRequestListener(door(database).fetch));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    browser = await chromium.launch({
      args: ["--no-sandbox"],
      ...(executablePath && { executablePath }),
    });
  });
  afterAll(async () => {
    await browser?.close();
    await new Promise((resolve) => server?.close(resolve));
    await database?.close();
  });

  test("a wrong key is refused in words, and an empty ledger teaches what to do", async () => {
    await settleAll(database, []);
    const { page, problems } = await open("light");
    await page.fill("#key", "wrong");
    await page.click("text=Open the dashboard");
    await page.waitForSelector("text=Incorrect API key");
    await signIn(page);
    await page.waitForSelector("text=No requests in this period");
    expect(await page.textContent("#curl")).toContain(`curl ${origin}/v1/chat/completions`);
    await shot(page, "empty");
    // The browser itself logs the 401 that was asked for.
    expect(problems.filter((problem) => !problem.includes("401"))).toEqual([]);
    await page.close();
  });

  test("costs, shares, requests and their decisions are shown, and markup in names stays text", async () => {
    const spent = await settleAll(database, sampleTraffic());
    const { page, problems } = await open("light");
    await signIn(page);
    await page.waitForSelector("#breakdown tbody tr");
    expect(await page.getAttribute("#cost", "title")).toBe(`$${formatted(spent)}`);
    expect(await page.textContent("#unpriced")).toMatch(/^\d+ unpriced$/);
    await page.click("text=30 days");
    await page.click("#dimensions >> text=Adapter");
    await page.waitForSelector("#breakdown >> text=llama-3.2-1b:sql-writer");
    expect(await barsDrawn(page)).toBe(true);
    await shot(page, "light");

    await page.click("#dimensions >> text=Project");
    await page.waitForSelector("#breakdown >> text=<img src=x onerror=alert(1)>");
    await page.click("#to-requests");
    await page.click("#latest tbody tr:has-text('sql-writer') >> nth=0");
    await page.waitForSelector("#detail[open]");
    expect(await page.textContent("#detail-decision")).toContain("cheapest that clears the floor");
    await shot(page, "detail");
    await page.click("#detail [data-close]");

    await page.click("#to-costs");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
    expect(download.suggestedFilename()).toMatch(/^costs-.*\.csv$/);
    await page.click("text=Forget key");
    await page.waitForSelector("#key");
    expect(await page.evaluate("sessionStorage.length")).toBe(0);
    expect(problems).toEqual([]);
    await page.close();
  });

  test("the dark theme and a narrow screen work too", async () => {
    await settleAll(database, sampleTraffic());
    const { page, problems } = await open("dark");
    await signIn(page);
    await page.waitForSelector("#breakdown tbody tr");
    await page.click("text=30 days");
    await shot(page, "dark");
    await page.setViewportSize({ width: 420, height: 900 });
    // The chart follows its box in the next frame.
    const width = () => page.evaluate("document.documentElement.scrollWidth");
    await expect.poll(width).toBeLessThanOrEqual(420);
    await shot(page, "narrow");
    expect(problems).toEqual([]);
    await page.close();
  });

  /** A page that notes every error and every breach of its policy. */
  async function open(colorScheme: "light" | "dark"): Promise<{ page: Page; problems: string[] }> {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height: 900 } });
    const problems: string[] = [];
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("dialog", (dialog) => problems.push(`a dialog: ${dialog.message()}`));
    await page.goto(origin);
    return { page, problems };
  }
});

async function signIn(page: Page): Promise<void> {
  await page.fill("#key", "admin-key");
  await page.click("text=Open the dashboard");
  await page.waitForSelector("#board:not([hidden])");
}

async function shot(page: Page, name: string): Promise<void> {
  if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
}

/** Whether any pixel of the canvas was painted. */
function barsDrawn(page: Page): Promise<unknown> {
  return page.evaluate(`(() => {
    const canvas = document.getElementById("chart");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value) => value > 0);
  })()`);
}

function door({ sql }: TestDatabase): Hono {
  const reports = createReports({
    sql,
    now: Date.now,
    authenticate(authorization) {
      if (authorization === "Bearer admin-key") return { type: "admin" };
      throw new HubError("invalid_api_key", "Incorrect API key provided: ***.");
    },
  });
  const dashboard = createDashboard();
  const app = new Hono();
  app.get("/auth/session", (c) => c.json({ enabled: false, user: null }));
  app.get("/api/projects", (c) => c.json({ data: [], has_more: false }));
  app.all("/api/*", (c) => reports.fetch(c.req.raw));
  app.all("*", (c) => dashboard.fetch(c.req.raw));
  return app;
}

type Traffic = {
  atMs: number;
  principal: ReturnType<typeof testPrincipal>;
  settlement: Settlement;
};

/** A month of a small company: growing use of adapters, some API traffic, one model without a price. */
function sampleTraffic(): Traffic[] {
  const projects = ["support-bot", "analytics", "<img src=x onerror=alert(1)>"].map((name, index) =>
    testPrincipal({
      project: { name, team: ["care", "data", "labs"][index] },
      key: { name: `${name}-prod` },
    }),
  );
  const traffic: Traffic[] = [];
  const nowMs = Date.now();
  for (let back = 29; back >= 0; back--) {
    const count = 4 + ((29 - back) % 7) * 2 + Math.floor((29 - back) / 4);
    for (let index = 0; index < count; index++) {
      const atMs = nowMs - back * 86_400_000 - (index + 1) * 60_000;
      const size = 400 + ((index * 977 + back * 131) % 2600);
      traffic.push({
        atMs,
        ...sampleRequest(index + back, size, atMs),
        principal: pick(projects, index),
      });
    }
  }
  return traffic;
}

function sampleRequest(index: number, size: number, atMs: number): { settlement: Settlement } {
  const usage = { input: size, cache_read: Math.floor(size / 3), output: Math.floor(size / 4) };
  const routed = {
    route: "auto",
    defaultModel: { model: "gpt-5.1" },
    requestedModel: "auto",
    decision: {
      route: "auto",
      reason: "cheapest that clears the floor",
      candidates: ["llama-3.2-1b:sql-writer@3", "gpt-5.1"],
    },
  };
  const cases: Partial<Settlement>[] = [
    { answered: { model: "gpt-5.1", upstream: "openai" }, usage, task: "summarise" },
    {
      answered: {
        model: "llama-3.2-1b",
        adapter: "sql-writer",
        adapterVersion: 3,
        upstream: "embedded",
      },
      usage,
      task: "sql",
      ...routed,
    },
    {
      answered: { model: "claude-haiku-4.5", upstream: "anthropic" },
      usage,
      task: "triage",
      ...routed,
    },
    {
      answered: {
        model: "llama-3.2-1b",
        adapter: "intent",
        adapterVersion: 12,
        upstream: "embedded",
      },
      usage,
      task: "intent",
      ...routed,
    },
    { answered: { model: "gpt-5-mini", upstream: "openai" }, usage, task: "summarise" },
    { answered: { model: "llama-3.2-1b", upstream: "embedded" }, usage },
  ];
  const unpriced = { answered: { model: "preview-model", upstream: "openai" }, usage };
  const chosen = index % 23 === 5 ? unpriced : pick(cases, index);
  return {
    settlement: testSettlement({
      startedAtMs: atMs,
      ttftMs: 80 + (size % 300),
      durationMs: 300 + size,
      ...chosen,
    }),
  };
}

/** Empties the ledger, settles the traffic, and returns what it cost. */
async function settleAll({ sql }: TestDatabase, traffic: Traffic[]): Promise<bigint> {
  await sql`drop schema if exists billing, gateway cascade`;
  let sum = 0n;
  await withFolder(async (dataDir) => {
    let clockMs = Date.now();
    const metering = await openMetering({
      dataDir,
      sql,
      prices: samplePrices,
      now: () => clockMs,
      limits: meteringLimits.parse({}),
      onError: (error) => {
        throw error;
      },
    });
    for (const { atMs, principal, settlement } of traffic) {
      clockMs = atMs;
      const requestId = newId("req", atMs);
      const reservation = await metering.accounts.reserve(testReserve(principal, { requestId }));
      const { cost } = await reservation.settle(settlement);
      if (atMs >= shownSince()) sum += cost ?? 0n;
    }
    await metering.flush();
    await metering.close();
  });
  return sum;
}

/** The page opens with seven whole days, today among them. */
function shownSince(): number {
  return (Math.floor(Date.now() / 86_400_000) - 6) * 86_400_000;
}

function formatted(pico: bigint): string {
  return `${pico / 10n ** 12n}.${(pico % 10n ** 12n).toString().padStart(12, "0")}`.replace(
    /0+$/,
    "",
  );
}

function pick<T>(items: readonly T[], index: number): T {
  return items[index % items.length] as T;
}

const samplePrices = testPrices(
  Object.fromEntries(
    [
      ["gpt-5.1", "0.00000125", "0.000000125", "0.00001"],
      ["gpt-5-mini", "0.00000025", "0.000000025", "0.000002"],
      ["claude-haiku-4.5", "0.000001", "0.0000001", "0.000005"],
      ["llama-3.2-1b", "0.00000006", "0.00000001", "0.00000018"],
      ["llama-3.2-1b:sql-writer", "0.00000008", "0.00000001", "0.00000024"],
    ].flatMap(([model, input = "", cacheRead = "", output = ""]) => [
      [`${model}/input`, input],
      [`${model}/cache_read`, cacheRead],
      [`${model}/output`, output],
    ]),
  ),
);
