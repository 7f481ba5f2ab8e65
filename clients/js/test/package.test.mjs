// The package as others get it: what is in it, that its types are found, and that it is as small as the README says.
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
const readme = await readFile(join(root, "README.md"), "utf8");

test("in the package is what is needed, and nothing else", () => {
  const told = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const files = JSON.parse(told)[0].files.map(({ path }) => path);
  const rest = files.filter((path) => !/^dist\/[a-z]+\.(js|d\.ts)$/.test(path));
  assert.deepEqual(rest.sort(), ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json", "push-worker.js"]);
  for (const { types, default: code } of [manifest.exports["."], manifest.exports["./node"]]) {
    assert.ok(files.includes(types.slice(2)) && files.includes(code.slice(2)), code);
  }
  assert.equal(manifest.dependencies, undefined);
});

const APP = `
import { Sparkmesh, RefusedError, type Confirmation, type Envelope, type Storage } from "sparkmesh";
import { FileStorage } from "sparkmesh/node";
const storage: Storage = new FileStorage("x");
const client = new Sparkmesh({ url: ["https://a.example", new URL("https://b.example")], key: async () => "key", storage });
client.on("message", async ({ envelope }) => { const from: string = envelope.src_id; await client.session(from).send({ from }); });
const done: Promise<Confirmation> = client.send({ dest_id: "bob", payload: [1, { two: null }] }, { signal: AbortSignal.timeout(1) });
const reply: Promise<Envelope> = client.request("bob", "?", { timeout: 5 });
// @ts-expect-error: an envelope's payload is JSON
void client.send({ dest_id: "bob", payload: () => 1 });
// @ts-expect-error: there is no such event
client.on("massage", () => {});
export { done, reply, RefusedError };
`;

for (const [moduleResolution, module] of [["node16", "node16"], ["bundler", "esnext"]]) {
  test(`its types are found with moduleResolution ${moduleResolution}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
    await mkdir(join(directory, "node_modules"));
    await symlink(root, join(directory, "node_modules/sparkmesh"));
    await writeFile(join(directory, "package.json"), '{"type":"module"}');
    await writeFile(join(directory, "app.ts"), APP);
    const compilerOptions = { moduleResolution, module, target: "es2022", lib: ["es2023", "dom"], types: [], strict: true, noEmit: true, exactOptionalPropertyTypes: true };
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["app.ts"] }));
    const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
    const result = await promisify(execFile)(process.execPath, [tsc, "-p", directory]).catch((error) => error);
    assert.equal(result.stdout, "");
    await rm(directory, { recursive: true });
  });
}

test("what is not exported cannot be imported", async () => {
  const inside = "sparkmesh/dist/outbox.js";
  await assert.rejects(import(inside), { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" });
  const outside = "sparkmesh";
  assert.ok((await import(outside)).Sparkmesh);
});

test("it is as small as the README says", async () => {
  const { outputFiles } = await build({
    absWorkingDir: root, entryPoints: ["dist/index.js"], bundle: true, minify: true, format: "esm", target: "es2022", write: false,
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  const [, stated] = readme.match(/(\d+(?:\.\d)?) KB \(minified and gzipped\)/) ?? [];
  assert.ok(Math.abs(bytes / 1000 - Number(stated)) < 0.5, `${bytes} bytes, and the README says ${stated} KB`);
});
