// The examples of the README, run as they stand against a real server; only its address is put in.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { key, Server } from "./lib/server.mjs";

const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
const examples = [...readme.matchAll(/<!-- example: (\w+) -->\n```js\n(.*?)```\n```text\n(.*?)```/gs)];
/** Within the package, so that `sparkmesh` is this one. */
const out = fileURLToPath(new URL("out/", import.meta.url));

/** @type {Server} */
let server;
before(async () => {
  await mkdir(out, { recursive: true });
  server = await Server.start();
});
after(() => server.stop());

test("there are examples", () => assert.equal(examples.length, readme.match(/<!-- example/g).length));

for (const [, name, code, output] of examples) {
  test(`the example "${name}" does what it says`, { timeout: 30_000 }, async () => {
    const directory = await mkdtemp(join(out, `${name}-`));
    await writeFile(join(directory, "example.mjs"), code.replaceAll("http://127.0.0.1:8080", server.url));
    const env = { ...process.env, ALICE_KEY: key("alice"), BOB_KEY: key("bob") };
    const { stdout } = await promisify(execFile)(process.execPath, ["example.mjs"], { cwd: directory, env });
    assert.equal(stdout, output);
    await rm(directory, { recursive: true });
  });
}
