// Beside each file of the build its compressed forms, which the gateway sends to who takes them: a
// page comes over a slow line in a third of the time, and nothing is compressed while it is asked for.

import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const FOLDER = new URL("../gateway/console/dist/assets/", import.meta.url).pathname;
const QUALITY = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }; // above it takes seconds
const SMALL_BYTES = 1024;

for (const name of await readdir(FOLDER)) {
  const file = join(FOLDER, name);
  if (!/\.(css|js)$/.test(name) || (await stat(file)).size < SMALL_BYTES) continue;
  const plain = await readFile(file);
  await writeFile(`${file}.gz`, gzipSync(plain, { level: 9 }));
  await writeFile(`${file}.br`, brotliCompressSync(plain, QUALITY));
}
