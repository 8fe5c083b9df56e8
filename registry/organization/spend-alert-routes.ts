/** `/v1/organization`: spend alerts of projects and of the organisation. */
import type { Hono } from "hono";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { writeSpendAlert } from "../../sdk/protocol/organization.ts";
import type { AppParts } from "../app.ts";
import { type Ctx, change, type Env, pageOf } from "../http/request.ts";
import { gone, ofProject, read, root } from "./address.ts";
import {
  createSpendAlert,
  deleteSpendAlert,
  getSpendAlert,
  type Holder,
  listSpendAlerts,
  toSpendAlert,
  updateSpendAlert,
} from "./spend-alerts.ts";

/** The same of a project and of the organisation. */
export function addSpendAlerts(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  const holders = [
    { at: `${ofProject}/spend_alerts`, holderOf: (id: string): Holder => ({ project: id }) },
    { at: `${root}/spend_alerts`, holderOf: (): Holder => "organization" },
  ];
  for (const { at, holderOf } of holders) {
    const holder = (context: Ctx) => holderOf(context.req.param("id") ?? "");
    app.get(at, async (context) => {
      const { before, order } = parseOrThrow(alertsQuery, context.req.query());
      const page = { ...pageOf(context, limits), before, order };
      return context.json(await listSpendAlerts(db, holder(context), page));
    });
    app.post(at, async (context) => {
      const body = await read(context, parts, writeSpendAlert);
      const of = holder(context);
      const made = await change(context, parts, (it) => createSpendAlert(it, of, body));
      return context.json(toSpendAlert(of, made));
    });
    app.get(`${at}/:alert`, async (context) => {
      const of = holder(context);
      const alert = await getSpendAlert(db, of, context.req.param("alert") ?? "");
      return context.json(toSpendAlert(of, alert));
    });
    app.post(`${at}/:alert`, async (context) => {
      const body = await read(context, parts, writeSpendAlert);
      const which = { holder: holder(context), id: context.req.param("alert") ?? "" };
      const changed = await change(context, parts, (it) => updateSpendAlert(it, which, body));
      return context.json(toSpendAlert(which.holder, changed));
    });
    app.delete(`${at}/:alert`, async (context) => {
      const of = holder(context);
      const alert = context.req.param("alert") ?? "";
      await change(context, parts, (it) => deleteSpendAlert(it, of, alert));
      const kind = of === "organization" ? of : "project";
      return context.json(gone(`${kind}.spend_alert`, alert));
    });
  }
}

const alertsQuery = z.object({
  before: z.string().max(64).optional(),
  order: z.enum(["asc", "desc"]).default("asc"),
});
