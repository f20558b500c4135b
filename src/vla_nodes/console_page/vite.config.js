// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vite";

const PAGE = "../vla_nodes/console/page";

/** Writes beside the page what it was built from, so that a test can tell whether it is up to date. */
function sources() {
  return {
    name: "sources",
    closeBundle() {
      const files = readdirSync(".", { recursive: true, withFileTypes: true })
        .filter((one) => one.isFile())
        .map((one) => join(one.parentPath, one.name))
        .filter((path) => !path.startsWith("node_modules"));
      const digest = createHash("sha256");
      for (const path of files.sort()) digest.update(path).update(readFileSync(path));
      writeFileSync(join(PAGE, "sources.sha256"), `${digest.digest("hex")}\n`);
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [sources()],
  build: {
    outDir: PAGE,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      output: { entryFileNames: "assets/console.js", assetFileNames: "assets/console[extname]" },
    },
  },
});
