// Against a real server: DEMUCS_WORKER_URL, with the folder TEST_FOLDER among its allowed roots, which holds song.wav,
// long.wav (many minutes) and text.mp3.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, readFile, stat } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import * as standard from "../index.js";
import { createClient, DemucsWorkerError } from "../index.js";

const folder = process.env.TEST_FOLDER;
const file = (name) => path.join(folder, name);
const client = createClient();
let scratch;

before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), "node-client-"));
});
after(() => client.shutdown());

const failsWith = (code) => (error) => error instanceof DemucsWorkerError && error.code === code;

async function aRunningTask() {
  return client.upload(file("long.wav"));
}

test("a song over paths: added, waited for, once for its fileId", async () => {
  const request = {
    fileId: "node-1", inputPath: file("song.wav"), outputDir: file("out"), projectName: "My Project", priority: "high",
  };
  const task = await client.addTask(request);
  assert.deepEqual([task.fileId, task.projectName, task.priority], ["node-1", "My Project", "high"]);
  assert.equal((await client.addTask(request)).id, task.id);
  await assert.rejects(client.addTask({ ...request, format: "mp3" }), failsWith("task_conflict"));
  const kinds = [];
  const done = await client.wait(task.id, { onEvent: (event) => kinds.push(event.event), timeoutMs: 60_000 });
  assert.equal(done.state, "completed");
  assert.equal(kinds.at(-1), "completed");
  assert.deepEqual(done.stems.map((stem) => stem.name).sort(), ["bass", "drums", "other", "vocals"]);
});

test("an upload in every shape, with progress, and its stems with their hashes", async () => {
  const bytes = await readFile(file("song.wav"));
  const progress = [];
  const fields = { stems: ["vocals", "drums"], format: "flac", bitDepth: "24" };
  const task = await client.upload(file("song.wav"), { ...fields, onProgress: (sent, total) => progress.push([sent, total]) });
  assert.equal(task.inputName, "song.wav");
  assert.deepEqual(task.options.stems, ["vocals", "drums"]);
  assert.equal(progress.at(-1)[0], progress.at(-1)[1]);
  const name = 'a "ä" 1.wav';
  for (const source of [bytes, new Blob([bytes]), createReadStream(file("song.wav"))]) {
    const other = await client.upload(source, { name, priority: "low" });
    assert.equal(other.inputName, name);
    assert.equal((await client.wait(other.id)).state, "completed");
  }
  const done = await client.wait(task.id);
  const out = path.join(scratch, "stems");
  const files = await client.download(done, out);
  assert.deepEqual((await readdir(out)).sort(), ["drums.flac", "vocals.flac"]);
  for (const stem of done.stems) {
    const found = await readFile(path.join(out, `${stem.name}.flac`));
    assert.equal(createHash("sha256").update(found).digest("hex"), stem.sha256);
  }
  const before = await stat(files[0]);
  await client.download(done.id, out, { stems: ["vocals"], format: "mp3" });
  await client.download(done, out);
  assert.equal((await stat(files[0])).mtimeMs, before.mtimeMs);
  assert.ok((await stat(path.join(out, "vocals.mp3"))).size > 1000);
  await assert.rejects(client.download(done, out, { stems: ["guitar"] }), failsWith("invalid_option"));
});

test("events of a task end with its last, and the list has it", async () => {
  const task = await client.upload(file("song.wav"), { shifts: 1 });
  const kinds = [];
  for await (const event of client.events(task.id)) kinds.push(event.event);
  assert.equal(kinds.at(-1), "completed");
  const listed = [];
  for await (const each of client.listTasks({ limit: 3 })) listed.push(each.id);
  assert.equal(listed.length, 3);
  assert.ok(listed.includes(task.id));
});

test("cancel, retry and remove", async () => {
  const task = await aRunningTask();
  assert.equal((await client.cancel(task.id)).state, "cancelled");
  await assert.rejects(client.wait(task.id), failsWith("task_cancelled"));
  await assert.rejects(client.cancel(task.id), failsWith("task_conflict"));
  assert.equal((await client.retry(task.id)).state, "queued");
  await assert.rejects(client.download(task.id, scratch), failsWith("task_conflict"));
  await client.cancel(task.id);
  await client.remove(task.id);
  await assert.rejects(client.getTask(task.id), (error) => failsWith("not_found")(error) && error.status === 404);
});

test("a wait ends when it was told to: by time, by a signal, by shutdown", async () => {
  const task = await aRunningTask();
  await assert.rejects(client.wait(task.id, { timeoutMs: 100 }), failsWith("wait_timed_out"));
  const controller = new AbortController();
  const stopped = client.wait(task.id, { signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(stopped, /enough/);
  const other = createClient();
  const waiting = other.wait(task.id);
  const listening = (async () => {
    for await (const event of other.events()) assert.ok(event);
  })();
  await other.getStatus();
  await other.shutdown();
  await assert.rejects(waiting, failsWith("client_closed"));
  await assert.rejects(listening, failsWith("client_closed"));
  await assert.rejects(other.getStatus(), failsWith("client_closed"));
  await client.cancel(task.id);
});

test("the module itself is a client, which shutdown ends and the next call makes anew", async () => {
  const task = await standard.addTask({ fileId: "node-2", inputPath: file("song.wav"), outputDir: file("out") });
  assert.equal(task.fileId, "node-2");
  assert.equal(typeof (await standard.getStatus()).queue.queued, "number");
  await standard.shutdown();
  assert.equal((await standard.getStatus()).accepting, true);
  await standard.shutdown();
  await client.wait(task.id);
});

test("errors carry their code and whether another try can help", async () => {
  await assert.rejects(client.upload(file("text.mp3")), failsWith("unsupported_format"));
  await assert.rejects(client.upload(file("gone.mp3")), failsWith("input_not_found"));
  await assert.rejects(client.upload(file("song.wav"), { format: "xyz" }), failsWith("invalid_option"));
  await assert.rejects(client.addTask({ inputPath: "/etc/passwd", outputDir: "/tmp" }), DemucsWorkerError);
  assert.throws(() => createClient({ url: "ftp://x" }), failsWith("invalid_setting"));
  const nobody = createClient({ url: "http://127.0.0.1:9" });
  await assert.rejects(nobody.getStatus(), (error) => {
    assert.match(error.message, /127\.0\.0\.1:9 \(connection refused\).*demucs-server-worker serve/);
    return error.retryable && error.code === "server_unreachable";
  });
});

/** A server that plays `answers`, one for each request. */
async function playing(answers, work) {
  const requests = [];
  const server = http.createServer((request, response) => {
    requests.push(request);
    request.resume();
    answers[Math.min(requests.length, answers.length) - 1](request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake = createClient({ url: `http://127.0.0.1:${server.address().port}` });
  try {
    return await work(fake, requests);
  } finally {
    await fake.shutdown();
    server.closeAllConnections?.();
    server.close();
  }
}

const json = (body, status = 200, headers = {}) => (request, response) => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
};

test("a submission whose connection breaks is repeated with the same key, a cancel is not", async () => {
  const drop = (request) => request.socket.destroy();
  await playing([drop, json({ id: "a" }, 202)], async (fake, requests) => {
    assert.equal((await fake.upload(Buffer.from("sound"))).id, "a");
    const keys = requests.map((request) => request.headers["idempotency-key"]);
    assert.ok(keys[0] && keys[0] === keys[1]);
  });
  await playing([drop, json({})], async (fake, requests) => {
    await assert.rejects(fake.cancel("a"), failsWith("server_unreachable"));
    assert.equal(requests.length, 1);
  });
});

test("a busy server is asked again when it says so", async () => {
  const problem = { code: "queue_full", detail: "full", retryable: true };
  await playing([json(problem, 503, { "retry-after": "0" }), json({ id: "a" }, 202)], async (fake, requests) => {
    assert.equal((await fake.addTask({ inputPath: "/a", outputDir: "/b" })).id, "a");
    assert.equal(requests.length, 2);
  });
  await playing([json(problem, 503)], async (fake) => {
    await assert.rejects(fake.getStatus(), failsWith("queue_full"));
  });
});

test("another server is known for one", async () => {
  await playing([json({ hello: "world" }, 404)], async (fake) => {
    await assert.rejects(fake.getStatus(), failsWith("not_our_server"));
  });
});

test("a download that breaks off goes on where it was, and other bytes are never given the name", async () => {
  const sound = Buffer.alloc(200_000, "sound");
  const sha256 = createHash("sha256").update(sound).digest("hex");
  const stem = { name: "vocals", format: "wav", sha256, bytes: sound.length };
  const task = { id: "a", state: "completed", stems: [stem] };
  const part = (request, response) => {
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const headers = { etag: '"x"', "content-length": sound.length - start };
    if (start > 0) headers["content-range"] = `bytes ${start}-${sound.length - 1}/${sound.length}`;
    response.writeHead(start > 0 ? 206 : 200, headers);
    if (start > 0) return response.end(sound.subarray(start));
    return response.write(sound.subarray(0, 50_000), () => setTimeout(() => response.destroy(), 50));
  };
  const out = path.join(scratch, "broken");
  await playing([part], async (fake, requests) => {
    await fake.download(task, out);
    assert.deepEqual(await readFile(path.join(out, "vocals.wav")), sound);
    assert.deepEqual(await readdir(out), ["vocals.wav"]);
    assert.match(requests[1].headers.range, /^bytes=[1-9]\d*-$/);
    assert.equal(requests[1].headers["if-range"], '"x"');
  });
  const other = path.join(scratch, "other");
  const wrong = (request, response) => response.writeHead(200).end(Buffer.alloc(10));
  await playing([wrong], async (fake) => {
    await assert.rejects(fake.download(task, other), failsWith("download_damaged"));
    assert.deepEqual(await readdir(other), []);
    const evil = { ...task, stems: [{ ...stem, name: "../evil" }] };
    await assert.rejects(fake.download(evil, other), failsWith("invalid_option"));
  });
});

test("a stream that breaks off is taken up after the last event heard", async () => {
  const task = { id: "a", state: "running" };
  const event = (kind, state, number) => {
    const data = JSON.stringify({ event: kind, task: { ...task, state, inputName: "ä\u2028" } });
    return `id: life-${number}\r\nevent: ${kind}\r\ndata: ${data}\r\n\r\n`;
  };
  const streams = [event("started", "running", 1) + ": half of", event("completed", "completed", 2)];
  const answer = (request, response) => {
    if (!request.url.endsWith("/events")) return json(task)(request, response);
    response.writeHead(200, { "content-type": "text/event-stream" });
    const text = Buffer.from(streams.shift());
    // One byte at a time: a letter or a line's end may be cut in two anywhere.
    for (const byte of text) response.write(Buffer.of(byte));
    return response.end();
  };
  await playing([answer], async (fake, requests) => {
    const kinds = [];
    const done = await fake.wait("a", { onEvent: (each) => kinds.push(each.event) });
    assert.deepEqual([kinds, done.inputName], [["started", "completed"], "ä\u2028"]);
    const ids = requests.filter((each) => each.url.endsWith("/events")).map((each) => each.headers["last-event-id"]);
    assert.deepEqual(ids, [undefined, "life-1"]);
  });
});
