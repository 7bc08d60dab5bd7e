// Send songs to a running server, wait, fetch the stems: node examples/client.mjs SONG… [OUT]
import path from "node:path";

import { createClient } from "../clients/node/index.js";

const songs = process.argv.slice(2);
if (songs.length === 0) {
  console.error("node examples/client.mjs SONG… [OUT]");
  process.exit(1);
}
const out = songs.length > 1 ? songs.pop() : "stems";

const client = createClient(); // DEMUCS_WORKER_URL, or the server on this machine
await Promise.all(
  songs.map(async (song) => {
    const task = await client.upload(song, { stems: ["vocals", "drums"], format: "flac" });
    const done = await client.wait(task.id);
    for (const file of await client.download(done, path.join(out, path.parse(song).name))) {
      console.log(`${path.basename(song)}: ${file}`);
    }
  }),
);
await client.shutdown();
