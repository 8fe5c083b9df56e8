/** Options that several commands take, read into the bodies that the server wants. */
import { type Command, InvalidArgumentError } from "commander";
import type { Switchyard } from "../client/switchyard.ts";
import type { Budget, Project, RateLimits } from "../protocol/catalog.ts";
import { parseUsd } from "../protocol/money.ts";
import { UsageError } from "./failure.ts";

export type LimitOptions = {
  requestsPerMinute?: number;
  tokensPerMinute?: number;
  concurrentRequests?: number;
  budget?: Budget;
};

/** Limits and a budget, as projects and keys have them. */
export function addLimitOptions(command: Command): Command {
  return command
    .option("--requests-per-minute <n>", "most requests a minute, also as one burst", wholeNumber)
    .option("--tokens-per-minute <n>", "most tokens a minute, also as one burst", wholeNumber)
    .option("--concurrent-requests <n>", "limit of requests at one time", wholeNumber)
    .option(
      "--budget <usd/period>",
      'such as "250/month", "5/day", "60/week" or "1000/total"',
      readBudget,
    );
}

/** `undefined` when none was given, so that an update leaves what there is. */
export function limitsOf(options: LimitOptions): RateLimits | undefined {
  const { requestsPerMinute, tokensPerMinute, concurrentRequests } = options;
  const limits = {
    ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
    ...(tokensPerMinute === undefined ? {} : { tokensPerMinute }),
    ...(concurrentRequests === undefined ? {} : { concurrentRequests }),
  };
  return Object.keys(limits).length === 0 ? undefined : limits;
}

export function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write a whole number, at least 1.");
}

/** `a,b` and repeated options are one list. */
export function commaList(text: string, before: string[] = []): string[] {
  const items = text.split(",").map((item) => item.trim());
  if (items.includes("")) throw new InvalidArgumentError("Separate names by single commas.");
  return [...before, ...items];
}

/** `KEY=VALUE`, repeated. */
export function keyValue(
  text: string,
  before: Record<string, string> = {},
): Record<string, string> {
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined) throw new InvalidArgumentError("Write KEY=VALUE.");
  return { ...before, [key]: value };
}

export function readDuration(text: string): number {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(amount) * (unitSeconds[unit ?? ""] ?? 0);
  if (seconds > 0) return seconds;
  throw new InvalidArgumentError('Write a time such as "45m", "12h" or "90d".');
}

/** A project by its id or its name. @throws UsageError when there is none, or two of the name */
export async function findProject(client: Switchyard, ref: string): Promise<Project> {
  const all = await client.projects.list();
  const found = all.filter(({ id, name }) => id === ref || name === ref);
  if (found[0] && found.length === 1) return found[0];
  const names = (found.length > 1 ? found : all).map(({ name, id }) => `${name} (${id})`);
  throw new UsageError(
    found.length > 1
      ? `'${ref}' is the name of several projects: ${names.join(", ")}. Give the id.`
      : `There is no project '${ref}'. There are: ${names.join(", ")}.`,
  );
}

export function budgetText(budget: Budget | undefined): string {
  if (budget === undefined) return "-";
  const { limitUsd, period, everyDays, timeZone, hard = true } = budget;
  const length = period === "custom" ? `${everyDays} days` : period;
  return `$${limitUsd}/${length}${timeZone ? ` ${timeZone}` : ""}${hard ? "" : " (soft)"}`;
}

function readBudget(text: string): Budget {
  const [, limitUsd, period] =
    /^\$?(\d+(?:\.\d+)?)\/(day|week|month|quarter|year|total)$/.exec(text) ?? [];
  if (limitUsd === undefined || period === undefined) {
    throw new InvalidArgumentError('Write dollars and a period, such as "250/month".');
  }
  parseUsd(limitUsd);
  return { limitUsd, period: period as Budget["period"] };
}

const unitSeconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
