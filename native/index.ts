/** The only loader of the addon. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { NativeApi } from './api.js';

/** From the running file's folder upwards: build/js/native, build/lib, build/bin or wherever a package put them. */
const searchDepth = 6;

let loaded: NativeApi | undefined;

/**
 * Loads the addon at the first call and returns the same afterwards. The file is `$TSNET_NATIVE`, or the nearest
 * `native/tsnet.node` or `build/native/tsnet.node` above the running file.
 *
 * Errors: Error naming the places searched when the addon is not built; Error of `dlopen` when it cannot be loaded.
 */
export function loadNative(): NativeApi {
  loaded ??= openAddon(findAddon());
  return loaded;
}

function openAddon(file: string): NativeApi {
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot load the native addon ${file}: ${reason}`, { cause });
  }
  return module.exports as NativeApi;
}

function findAddon(): string {
  const asked = process.env['TSNET_NATIVE'];
  if (asked !== undefined && asked !== '') return asked;
  const start = runningFolder();
  let folder = start;
  for (let depth = 0; depth < searchDepth; depth += 1) {
    for (const candidate of [join(folder, 'native/tsnet.node'), join(folder, 'build/native/tsnet.node')]) {
      if (existsSync(candidate)) return candidate;
    }
    folder = dirname(folder);
  }
  throw new Error(`the native addon is not built: no native/tsnet.node at or above ${start}; run: npm run build`);
}

/** The folder of this code, as a module of its own or bundled into a CommonJS or ES module file. */
function runningFolder(): string {
  return typeof __dirname === 'string' ? __dirname : dirname(fileURLToPath(import.meta.url));
}
