// Compiles the package into dist/, and bundles it for the pages of the server. `--package-only` leaves the bundle as it is;
// `--bundle-only FILE` writes just the bundle, elsewhere.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const [option, elsewhere] = process.argv.slice(2);

if (option !== "--bundle-only") {
  const typescript = createRequire(import.meta.url).resolve("typescript/package.json");
  rmSync(join(root, "dist"), { recursive: true, force: true });
  execFileSync(process.execPath, [join(dirname(typescript), "bin/tsc"), "-p", root], { stdio: "inherit" });
  // A package carries its licences with it.
  for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) copyFileSync(join(root, "../..", licence), join(root, licence));
}
if (option !== "--package-only") {
  await build({
    absWorkingDir: root,
    entryPoints: ["src/index.ts"],
    outfile: elsewhere ?? join(root, "../../web/chat/sparkmesh.js"),
    bundle: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    legalComments: "none",
    banner: { js: "// Made from clients/js by `npm run build`: change it there." },
    logLevel: "warning",
  });
}
