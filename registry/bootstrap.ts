/** What an empty registry needs before anyone can ask it for anything, and what the settings declare. */
import { and, eq, isNull } from "drizzle-orm";
import { z } from "zod";
import {
  createKey as createKeySchema,
  declareModel as modelSchema,
  declareRoute as routeSchema,
} from "../sdk/protocol/admin.ts";
import type { Budget, RateLimits } from "../sdk/protocol/catalog.ts";
import { newId, type ProjectId } from "../sdk/protocol/ids.ts";
import { createKey, everHad } from "./api-keys.ts";
import type { Change, ChangeLog } from "./change.ts";
import { generateKey, hashKey } from "./keys.ts";
import { declareModel } from "./models.ts";
import { declarePrices, type NewPrice } from "./prices.ts";
import { declareRoute } from "./routes.ts";
import { apiKeys, projects } from "./schema.ts";

export type BootstrapInput = {
  /** Keys that the operator chose; absent ones are made when there is none yet. */
  adminKey?: string | undefined;
  apiKey?: string | undefined;
  /** Of the first project, when it is made; later changes through the API stand. */
  limits?: RateLimits | undefined;
  budget?: Budget | undefined;
};

export type Bootstrapped = {
  projectId: ProjectId;
  /** The only time that a key which was made here is told. */
  generated: { adminKey?: string; apiKey?: string };
};

/** Makes the project `default`, a key for it and an admin key, as far as they are missing. */
export async function bootstrap(changes: ChangeLog, input: BootstrapInput): Promise<Bootstrapped> {
  const [adminKey, apiKey] = [input.adminKey, input.apiKey].map((key) =>
    key === undefined ? undefined : chosenKey.parse(key),
  );
  return changes.change("settings", async (change) => {
    const projectId = await firstProject(change, input);
    const generated = {
      adminKey: await ensureKey(change, { name: "first admin", role: "admin", key: adminKey }),
      apiKey: await ensureKey(change, { name: "first", role: "project", projectId, key: apiKey }),
    };
    return {
      projectId,
      generated: {
        ...(generated.adminKey !== undefined && { adminKey: generated.adminKey }),
        ...(generated.apiKey !== undefined && { apiKey: generated.apiKey }),
      },
    };
  });
}

/** What a settings file declares. */
export type Declared = {
  models?: readonly ({ id: string } & z.input<typeof modelSchema>)[];
  routes?: readonly ({ name: string } & z.input<typeof routeSchema>)[];
  prices?: readonly NewPrice[];
};

/**
 * Makes the registry hold what is declared, in one change; what it holds already is no event. Nothing
 * that the settings no longer mention is removed.
 * @throws HubError as the same declarations through the API
 */
export async function applyDeclared(changes: ChangeLog, declared: Declared): Promise<void> {
  await changes.change("settings", async (change) => {
    for (const { id, ...model } of declared.models ?? []) {
      await declareModel(change, id, modelSchema.parse(model));
    }
    for (const { name, ...route } of declared.routes ?? []) {
      await declareRoute(change, name, routeSchema.parse(route));
    }
    await declarePrices(change, declared.prices ?? []);
  });
}

async function firstProject({ tx, at, record }: Change, input: BootstrapInput): Promise<ProjectId> {
  const [known] = await tx.select().from(projects).where(eq(projects.name, firstProjectName));
  if (known) return known.id;
  const id = newId("proj", at.getTime());
  const { limits = {}, budget } = input;
  await tx.insert(projects).values({
    id,
    name: firstProjectName,
    limits,
    budget: budget ?? null,
    unpriced: "allow",
    createdAt: at,
  });
  const detail = { name: firstProjectName, limits, ...(budget && { budget }) };
  await record({ type: "project.created", subject: id, projectId: id, detail });
  return id;
}

/** @returns the key when it was generated here */
async function ensureKey(
  change: Change,
  wanted: {
    name: string;
    role: "admin" | "project";
    projectId?: ProjectId;
    key: string | undefined;
  },
): Promise<string | undefined> {
  const { key, ...rest } = wanted;
  const { tx } = change;
  const [known] = await tx
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(
      key !== undefined
        ? everHad(hashKey(key))
        : and(
            eq(apiKeys.role, rest.role),
            rest.projectId && eq(apiKeys.projectId, rest.projectId),
            isNull(apiKeys.revokedAt),
          ),
    )
    .limit(1);
  if (known) return undefined;
  const made = key ?? generateKey(rest.role);
  await createKey(change, createKeySchema.parse(rest), made);
  return key === undefined ? made : undefined;
}

const firstProjectName = "default";
const chosenKey = z
  .string()
  .regex(
    /^[\x21-\x7e]{16,256}$/,
    "expected a key of 16 to 256 printable characters without spaces",
  );
