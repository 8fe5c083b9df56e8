/** Moderations, images and audio, as the OpenAPI document tells them. */
import { z } from "zod";
import {
  type Answer,
  json,
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";
import { imagesRequest } from "./images.ts";
import { moderationsRequest } from "./moderations.ts";
import { speechRequest } from "./speech.ts";
import { audioRequest } from "./transcriptions.ts";

const model = z.string().min(1).max(512);
const file = z.string().meta({ format: "binary" });
const images = z.looseObject({ created: z.int(), data: z.array(z.looseObject({})).optional() });
const imagesAnswer: Answer = {
  says: "The images; with `stream` they come about as events.",
  content: { "application/json": images, "text/event-stream": streamedEvent },
};
const textAnswer: Answer = {
  says: "What is said, as `response_format` asks for it; with `stream` as events.",
  content: {
    "application/json": z.looseObject({ text: z.string() }),
    "text/plain": z.string(),
    "text/event-stream": streamedEvent,
  },
};
const audio = Object.fromEntries(
  ["mpeg", "opus", "aac", "flac", "wav", "pcm"].map((type) => [`audio/${type}`, file]),
);

const shared = { method: "post", tag: "OpenAI", access: "project", codes: modelCodes } as const;
const form = "multipart/form-data";

export const mediaOperations: readonly Operation[] = [
  {
    ...shared,
    path: "/v1/moderations",
    id: "createModeration",
    summary: "What a text or a picture would be refused for",
    body: { schema: moderationsRequest, example: { input: "Hello" } },
    answers: {
      200: json("The findings.", z.looseObject({ results: z.array(z.looseObject({})) })),
    },
  },
  {
    ...shared,
    path: "/v1/images/generations",
    id: "createImage",
    summary: "Makes images",
    body: {
      schema: imagesRequest.extend({ model }),
      example: { model: "gpt-image-1", prompt: "A parrot" },
    },
    answers: { 200: imagesAnswer },
  },
  {
    ...shared,
    path: "/v1/images/edits",
    id: "editImage",
    summary: "Changes images that a form brings, or that JSON names",
    body: { type: form, schema: imagesRequest.extend({ model, image: file }) },
    answers: { 200: imagesAnswer },
  },
  {
    ...shared,
    path: "/v1/images/variations",
    id: "varyImage",
    summary: "Makes images that are like one",
    body: { type: form, schema: imagesRequest.extend({ model, image: file }) },
    answers: { 200: imagesAnswer },
  },
  {
    ...shared,
    path: "/v1/audio/speech",
    id: "createSpeech",
    summary: "Speaks a text, as bytes or as events",
    body: {
      schema: speechRequest.extend({ model }),
      example: { model: "gpt-4o-mini-tts", input: "Hello", voice: "alloy" },
    },
    answers: {
      200: { says: "The audio.", content: { ...audio, "text/event-stream": streamedEvent } },
    },
  },
  {
    ...shared,
    path: "/v1/audio/transcriptions",
    id: "createTranscription",
    summary: "Writes down what is said",
    body: { type: form, schema: audioRequest.extend({ model, file }) },
    answers: { 200: textAnswer },
  },
  {
    ...shared,
    path: "/v1/audio/translations",
    id: "createTranslation",
    summary: "Writes down in English what is said",
    body: { type: form, schema: audioRequest.extend({ model, file }) },
    answers: { 200: textAnswer },
  },
];
