/** The published client. Bodies and answers are the schemas of `switchyard/protocol`. */
export type { AdapterHistory, PushFolder } from "./adapters.ts";
export type { Batch, CreateBatch } from "./batches.ts";
export { SwitchyardError } from "./error.ts";
export type { StoredFile, UploadFile } from "./files.ts";
export type { CostRow, CostsQuery } from "./reports.ts";
export { Switchyard, type SwitchyardOptions } from "./switchyard.ts";
