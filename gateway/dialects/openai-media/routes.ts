/** Every address for moderations, images and audio, with how its requests are read. */
import type { Call, Dialect } from "../dialect.ts";
import type { MediaParts } from "./call.ts";
import {
  openAiEdits,
  openAiGenerations,
  openAiVariations,
  readEditsCall,
  readGenerationsCall,
  readVariationsCall,
} from "./images.ts";
import { openAiModerations, readModerationsCall } from "./moderations.ts";
import { openAiSpeech, readSpeechCall } from "./speech.ts";
import {
  openAiTranscriptions,
  openAiTranslations,
  readTranscriptionsCall,
  readTranslationsCall,
} from "./transcriptions.ts";

export type MediaRoute = {
  path: string;
  dialect: Dialect;
  /** @throws HubError naming the field */
  read(request: Request, parts: MediaParts): Promise<Call>;
};

export const mediaRoutes: readonly MediaRoute[] = [
  { path: "/v1/moderations", dialect: openAiModerations, read: readModerationsCall },
  { path: "/v1/images/generations", dialect: openAiGenerations, read: readGenerationsCall },
  { path: "/v1/images/edits", dialect: openAiEdits, read: readEditsCall },
  { path: "/v1/images/variations", dialect: openAiVariations, read: readVariationsCall },
  { path: "/v1/audio/speech", dialect: openAiSpeech, read: readSpeechCall },
  {
    path: "/v1/audio/transcriptions",
    dialect: openAiTranscriptions,
    read: readTranscriptionsCall,
  },
  { path: "/v1/audio/translations", dialect: openAiTranslations, read: readTranslationsCall },
];
