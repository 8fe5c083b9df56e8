/** `switchyard projects`: who pays, and within which limits. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { UpdateProject } from "../../protocol/admin.ts";
import { ownKeysDefault, type Project } from "../../protocol/catalog.ts";
import { piiKinds } from "../../protocol/guardrails.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import {
  addLimitOptions,
  budgetText,
  commaList,
  findProject,
  keyValue,
  type LimitOptions,
  limitsOf,
} from "../options.ts";
import { integer } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

type ProjectOptions = LimitOptions & {
  name?: string;
  team?: string;
  costCentre?: string;
  tag?: Record<string, string>;
  ownKeys?: number;
  unpriced?: "allow" | "refuse";
  /** Seconds; 0 for none. */
  responseCache?: number;
  /** Days; 0 for none. */
  contentLog?: number;
  contentShare?: number;
  contentParts?: string[];
  contentKeep?: string[];
  cachePace?: "fast" | "recorded";
  cacheSampled?: boolean;
};

export function addProjects(program: Command, cli: Cli): void {
  const projects = program.command("projects").description("projects, their limits and budgets");

  addProjectOptions(
    projects.command("create").description("make a project").argument("<name>", "unique name"),
  ).action(async (name: string, options: ProjectOptions) => {
    const { responseCache, contentLog, ...body } = toBody(options);
    const created = await cli.client().projects.create({
      ...body,
      ...(responseCache && { responseCache }),
      ...(contentLog && { contentLog }),
      name,
    });
    cli.show(created, (project) => table([project], cli));
  });

  projects
    .command("list")
    .description("all projects")
    .action(async () => {
      cli.show(await cli.client().projects.list(), (list) => table(list, cli));
    });

  addProjectOptions(
    projects
      .command("update")
      .description("change what is given and leave the rest")
      .argument("<name-or-id>")
      .option("--name <name>", "another name"),
  )
    .option("--remove-budget", "have no budget from now on")
    .action(async (ref: string, options: ProjectOptions & { removeBudget?: boolean }) => {
      const client = cli.client();
      const body = {
        ...toBody(options),
        ...(options.name === undefined ? {} : { name: options.name }),
        ...(options.removeBudget === true ? { budget: null } : {}),
      };
      if (Object.keys(body).length === 0) {
        throw new UsageError(
          "Nothing to change was given. See 'switchyard projects update --help'.",
        );
      }
      const { id } = await findProject(client, ref);
      cli.show(await client.projects.update(id, body), (project) => table([project], cli));
    });

  projects
    .command("purge-cache")
    .description("forget the answers that are kept to be given again")
    .argument("<name-or-id>")
    .action(async (ref: string) => {
      const client = cli.client();
      const { id } = await findProject(client, ref);
      const purged = await client.projects.purgeCache(id);
      cli.show({ purged }, () => `Forgotten: ${integer(purged)} answers.`);
    });
}

function addProjectOptions(command: Command): Command {
  return addLimitOptions(
    command
      .option("--team <team>", "as reports group by it")
      .option("--cost-centre <code>", "as reports group by it")
      .option("--tag <key=value>", "as reports group by it; may be repeated", keyValue)
      .option("--own-keys <n>", "keys that each member may make for themselves", keyCount)
      .addOption(
        new Option("--unpriced <what>", "requests to models without a price").choices([
          "allow",
          "refuse",
        ]),
      )
      .option(
        "--response-cache <seconds>",
        "give answers of temperature 0 again for so long; 0 no longer does",
        cacheSeconds,
      )
      .addOption(
        new Option(
          "--cache-pace <pace>",
          "streams that are given again, with --response-cache",
        ).choices(["fast", "recorded"]),
      )
      .option("--cache-sampled", "with --response-cache: answers of other temperatures too")
      .option(
        "--content-log <days>",
        "keep prompts and answers for so long, sealed and without what identifies people; 0 keeps none",
        contentDays,
      )
      .option("--content-share <share>", "of that part of the requests, such as 0.1", contentShare)
      .addOption(
        new Option("--content-parts <parts>", "of these alone: prompt, answer").argParser(
          commaList,
        ),
      )
      .addOption(
        new Option(
          "--content-keep <kinds>",
          `with what identifies people of these kinds: ${piiKinds.join(", ")}`,
        ).argParser(commaList),
      ),
  );
}

function toBody(options: ProjectOptions) {
  const {
    team,
    costCentre,
    tag: tags,
    ownKeys,
    unpriced,
    budget,
    responseCache,
    cachePace,
    cacheSampled,
  } = options;
  if (!responseCache && (cachePace !== undefined || cacheSampled)) {
    throw new UsageError("Say with --response-cache for how many seconds answers are given again.");
  }
  const cache = {
    ...(cachePace && { pace: cachePace }),
    ...(cacheSampled && { sampled: true }),
  };
  const limits = limitsOf(options);
  return {
    ...(team === undefined ? {} : { team }),
    ...(costCentre === undefined ? {} : { costCentre }),
    ...(tags && { tags }),
    ...(ownKeys === undefined ? {} : { ownKeys: { keysMax: ownKeys, daysMax: ownKeyDays } }),
    ...(unpriced === undefined ? {} : { unpriced }),
    ...(responseCache === undefined
      ? {}
      : { responseCache: responseCache === 0 ? null : { ttlSeconds: responseCache, ...cache } }),
    ...contentLogOf(options),
    ...(limits === undefined ? {} : { limits }),
    ...(budget === undefined ? {} : { budget }),
  };
}

function keyCount(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write a whole number below 1000; 0 lets nobody make any.");
}

function contentLogOf(options: ProjectOptions): { contentLog?: ContentLogInput | null } {
  const { contentLog: retentionDays, contentShare: share, contentParts, contentKeep } = options;
  const isFurther = [share, contentParts, contentKeep].some((given) => given !== undefined);
  if (retentionDays === undefined) {
    if (isFurther) throw new UsageError("Say with --content-log for how many days.");
    return {};
  }
  if (retentionDays === 0) return { contentLog: null };
  return {
    contentLog: {
      retentionDays,
      ...(share !== undefined && { share }),
      // The server says which it does not know.
      ...(contentParts && { parts: contentParts as ContentLogInput["parts"] }),
      ...(contentKeep && { redact: piiKinds.filter((kind) => !contentKeep.includes(kind)) }),
    },
  };
}

type ContentLogInput = NonNullable<UpdateProject["contentLog"]>;

function contentDays(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write whole days, such as 30.");
}

function contentShare(text: string): number {
  const share = Number(text);
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError("Write a number above 0 and up to 1.");
}

function cacheSeconds(text: string): number {
  if (/^\d{1,7}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write whole seconds, such as 3600.");
}

function cacheText(cache: Project["responseCache"]): string {
  if (!cache) return "-";
  const more = [cache.sampled && "sampled", cache.pace === "recorded" && "recorded pace"];
  return [`${integer(cache.ttlSeconds)} s`, ...more.filter(Boolean)].join(", ");
}

function table(list: readonly Project[], { terminal }: Cli): string {
  return formatTable(
    list,
    [
      { title: "ID", cell: ({ id }) => id },
      { title: "NAME", cell: ({ name }) => name },
      { title: "TEAM", cell: ({ team }) => team ?? "-" },
      { title: "BUDGET", cell: ({ budget }) => budgetText(budget), right: true },
      { title: "REQ/MIN", cell: ({ limits }) => integer(limits.requestsPerMinute), right: true },
      { title: "TOKENS/MIN", cell: ({ limits }) => integer(limits.tokensPerMinute), right: true },
      { title: "AT ONCE", cell: ({ limits }) => integer(limits.concurrentRequests), right: true },
      { title: "UNPRICED", cell: ({ unpriced }) => unpriced },
      { title: "CACHE", cell: ({ responseCache: cache }) => cacheText(cache) },
    ],
    terminal.colours,
  );
}

/** How long such keys last; the API takes other ceilings. */
const ownKeyDays = ownKeysDefault.daysMax;
