/** OpenAI's spend alerts of a project and of the organisation: told once a month by the alerts of budgets. */
import type { z } from "zod";
import type { SpendAlert } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import type { writeSpendAlert } from "../../sdk/protocol/organization.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import { type List, type Page, toList } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { getOrganization, setOrganization } from "../organization.ts";
import { getProject, updateProject } from "../projects.ts";

/** A project by its id, or the organisation. */
export type Holder = { project: string } | "organization";
type Body = z.infer<typeof writeSpendAlert>;

export function toSpendAlert(holder: Holder, alert: SpendAlert) {
  const { id, thresholdUsd, recipients, subjectPrefix } = alert;
  return {
    id,
    object: `${kindOf(holder)}.spend_alert` as const,
    currency: "USD" as const,
    interval: "month" as const,
    threshold_amount: Number(parseUsd(thresholdUsd)) / Number(picoUsdPerCent),
    notification_channel: {
      type: "email" as const,
      recipients,
      subject_prefix: subjectPrefix ?? null,
    },
  };
}

/** Alerts in the order of their making, or the newest first; there are so few that pages are cut from all of them. */
export async function listSpendAlerts(
  db: Queryable,
  holder: Holder,
  { limit, after, before, order }: Page & { before: string | undefined; order: "asc" | "desc" },
): Promise<List<ReturnType<typeof toSpendAlert>>> {
  const sorted = (await alertsOf(db, holder)).map((alert) => toSpendAlert(holder, alert));
  if (order === "desc") sorted.reverse();
  const from = after === undefined ? 0 : sorted.findIndex(({ id }) => id === after) + 1;
  const end = before === undefined ? sorted.length : sorted.findIndex(({ id }) => id === before);
  const asked = sorted.slice(from, Math.max(from, end));
  return toList(before === undefined ? asked : asked.slice(-limit), { limit, after });
}

/** @throws HubError `not_found` */
export async function getSpendAlert(
  db: Queryable,
  holder: Holder,
  id: string,
): Promise<SpendAlert> {
  const alert = (await alertsOf(db, holder)).find((it) => it.id === id);
  if (!alert) throw notFound("spend alert", id);
  return alert;
}

/** @throws HubError `not_found` for the project, `invalid_value` for one alert too many */
export async function createSpendAlert(
  change: Change,
  holder: Holder,
  body: Body,
): Promise<SpendAlert> {
  const alerts = await alertsOf(change.tx, holder);
  if (alerts.length >= alertsMax) {
    throw new HubError("invalid_value", `There are ${alertsMax} spend alerts already.`);
  }
  const made = { id: newId("alert", change.at.getTime()), ...told(body) };
  await setAlerts(change, holder, [...alerts, made]);
  return made;
}

/** @throws HubError `not_found` */
export async function updateSpendAlert(
  change: Change,
  { holder, id }: { holder: Holder; id: string },
  body: Body,
): Promise<SpendAlert> {
  const before = await getSpendAlert(change.tx, holder, id);
  const changed = { id: before.id, ...told(body) };
  const alerts = await alertsOf(change.tx, holder);
  await setAlerts(
    change,
    holder,
    alerts.map((it) => (it.id === id ? changed : it)),
  );
  return changed;
}

/** @throws HubError `not_found` */
export async function deleteSpendAlert(change: Change, holder: Holder, id: string): Promise<void> {
  await getSpendAlert(change.tx, holder, id);
  const alerts = await alertsOf(change.tx, holder);
  await setAlerts(
    change,
    holder,
    alerts.filter((it) => it.id !== id),
  );
}

async function alertsOf(db: Queryable, holder: Holder): Promise<readonly SpendAlert[]> {
  const held =
    holder === "organization" ? await getOrganization(db) : await getProject(db, holder.project);
  return held.spendAlerts ?? [];
}

async function setAlerts(change: Change, holder: Holder, spendAlerts: SpendAlert[]) {
  if (holder !== "organization") {
    await updateProject(change, holder.project, { spendAlerts });
    return;
  }
  await setOrganization(change, { ...(await getOrganization(change.tx)), spendAlerts });
}

function told({ threshold_amount: cents, notification_channel: channel }: Body) {
  return {
    thresholdUsd: formatUsd(BigInt(cents) * picoUsdPerCent),
    recipients: channel.recipients,
    ...(channel.subject_prefix != null && { subjectPrefix: channel.subject_prefix }),
  };
}

const kindOf = (holder: Holder) => (holder === "organization" ? "organization" : "project");
const picoUsdPerCent = 10_000_000_000n;
/** As many as the catalogue's shape takes. */
const alertsMax = 20;
