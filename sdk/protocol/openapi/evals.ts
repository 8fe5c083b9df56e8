/** The operations of evals, as its app has them: datasets, and runs that measure candidates on them. */
import { z } from "zod";
import { createRun, evalRun } from "../admin.ts";
import { dataset, evalAnswer } from "../evals.ts";
import { projectId } from "../ids.ts";
import { listOf, page } from "./lists.ts";
import { databaseCodes, json, type Operation } from "./operation.ts";

const found = [...databaseCodes, "not_found"] as const;

export const evalsOperations: readonly Operation[] = [
  {
    method: "get",
    path: "/api/datasets",
    id: "listDatasets",
    tag: "Evals",
    summary: "Datasets, a page of them",
    access: "both",
    query: z.object(page),
    answers: { 200: json("Datasets.", listOf(dataset)) },
    codes: databaseCodes,
  },
  {
    method: "post",
    path: "/api/datasets",
    id: "pushDataset",
    tag: "Evals",
    summary: "Pushes a dataset, a row in each line",
    access: "both",
    query: z.object({ name: z.string().max(128).optional(), projectId: projectId.optional() }),
    body: {
      type: "application/x-ndjson",
      schema: z.string(),
      example: '{"input": "Where is my parcel?", "ideal": "delivery"}\n',
    },
    answers: {
      200: json("It was there already.", dataset),
      201: json("A new dataset.", dataset),
    },
    codes: [...found, "invalid_dataset", "storage_full"],
  },
  {
    method: "get",
    path: "/api/datasets/{sha256}",
    id: "getDataset",
    tag: "Evals",
    summary: "A dataset",
    access: "both",
    params: { sha256: z.string().min(1) },
    answers: { 200: json("The dataset.", dataset) },
    codes: found,
  },
  {
    method: "get",
    path: "/api/evals/runs",
    id: "listRuns",
    tag: "Evals",
    summary: "Runs, a page of them",
    access: "both",
    query: z.object(page),
    answers: { 200: json("Runs.", listOf(evalRun)) },
    codes: databaseCodes,
  },
  {
    method: "post",
    path: "/api/evals/runs",
    id: "createRun",
    tag: "Evals",
    summary: "Begins a run, whose requests are billed to the key's project",
    access: "project",
    body: { schema: createRun },
    answers: { 201: json("The run.", evalRun) },
    codes: [...found, "model_not_found", "invalid_dataset", "rate_limit_exceeded"],
  },
  {
    method: "get",
    path: "/api/evals/runs/{id}",
    id: "getRun",
    tag: "Evals",
    summary: "A run, and what it has found so far",
    access: "both",
    answers: { 200: json("The run.", evalRun) },
    codes: found,
  },
  {
    method: "post",
    path: "/api/evals/runs/{id}/cancel",
    id: "cancelRun",
    tag: "Evals",
    summary: "Stops a run; what was answered is kept",
    access: "both",
    answers: { 200: json("The run.", evalRun) },
    codes: found,
  },
  {
    method: "post",
    path: "/api/evals/runs/{id}/resume",
    id: "resumeRun",
    tag: "Evals",
    summary: "Takes up an ended run where answers are missing",
    access: "project",
    answers: { 200: json("The run.", evalRun) },
    codes: [...found, "invalid_value", "invalid_dataset", "rate_limit_exceeded"],
  },
  {
    method: "get",
    path: "/api/evals/runs/{id}/results",
    id: "listResults",
    tag: "Evals",
    summary: "Each candidate's answer to each row",
    access: "both",
    query: z.object({
      limit: z.int().min(1).optional(),
      candidate: z.string().max(512).optional(),
      failed: z.enum(["true", "false"]).optional(),
      after: z
        .string()
        .regex(/^\d{1,9}\.\d{1,9}$/)
        .optional(),
    }),
    answers: { 200: json("Answers.", listOf(evalAnswer)) },
    codes: found,
  },
];
