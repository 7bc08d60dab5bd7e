/** A file on its way to the server: a form that is read while it is sent. */
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { DemucsWorkerError } from "./errors.js";

/**
 * The body of an upload.
 * @param {string | URL | Blob | Uint8Array | AsyncIterable<Uint8Array>} source a path, or the bytes
 * @param {string | undefined} name the file's name, as the server is to know it
 * @param {Record<string, unknown>} fields beside the file
 * @returns {Promise<{type: string, length: number | null, repeatable: boolean, chunks: () => AsyncIterable<Uint8Array>}>}
 */
export async function form(source, name, fields) {
  const file = await opened(source);
  const boundary = randomBytes(16).toString("hex");
  // Fields first: the server then knows what is wanted before the long part begins.
  let head = "";
  for (const [field, value] of Object.entries(fields)) {
    if (value !== undefined && value !== null) head += `${part(boundary, field)}\r\n${text(value)}\r\n`;
  }
  head += `${part(boundary, "file", name ?? file.name)}Content-Type: application/octet-stream\r\n\r\n`;
  const start = Buffer.from(head);
  const end = Buffer.from(`\r\n--${boundary}--\r\n`);
  return {
    type: `multipart/form-data; boundary=${boundary}`,
    length: file.size === null ? null : start.length + file.size + end.length,
    repeatable: file.repeatable,
    async *chunks() {
      yield start;
      let size = 0;
      for await (const chunk of file.bytes()) {
        size += chunk.length;
        if (file.size !== null && size > file.size) break;
        yield chunk;
      }
      if (file.size !== null && size !== file.size) {
        throw new DemucsWorkerError(`${file.name} changed while it was sent.`, { code: "input_unreadable" });
      }
      yield end;
    },
  };
}

async function opened(source) {
  if (typeof source === "string" || source instanceof URL) {
    const file = typeof source === "string" ? source : fileURLToPath(source);
    try {
      const { size } = await stat(file);
      return { name: path.basename(file), size, repeatable: true, bytes: () => createReadStream(file) };
    } catch (error) {
      const detail = `There is no file ${file}. Check the path.`;
      throw new DemucsWorkerError(detail, { code: "input_not_found", cause: error });
    }
  }
  if (source instanceof Blob) {
    return { name: source.name ?? "audio", size: source.size, repeatable: true, bytes: () => source.stream() };
  }
  if (source instanceof Uint8Array) {
    return { name: "audio", size: source.length, repeatable: true, bytes: async function* () { yield source; } };
  }
  if (typeof source?.[Symbol.asyncIterator] === "function") {
    const named = typeof source.path === "string" ? path.basename(source.path) : "audio";
    return { name: named, size: null, repeatable: false, bytes: () => source };
  }
  const allowed = "a path, a Blob, a Buffer or a stream of bytes is needed";
  throw new DemucsWorkerError(`The file is not valid: ${allowed}.`, { code: "invalid_option" });
}

function part(boundary, field, filename) {
  const named = filename === undefined ? "" : `; filename="${plain(filename)}"`;
  return `--${boundary}\r\nContent-Disposition: form-data; name="${plain(field)}"${named}\r\n`;
}

// What HTML makes browsers do with names that would end the header they stand in.
function plain(name) {
  return name.replace(/"/g, "%22").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
}

function text(value) {
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
