/** The only loader of the addon. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { NativeApi } from './api.js';

/** From the running file's folder upwards: build/js/native, build/lib, build/bin or wherever a package put them. */
const searchDepth = 6;

/** Of `api.ts`: one more with each change of what it says. Equal to that in `src/addon.cc`. */
export const interfaceVersion = 2;

/** That there is no addon which this program could use. */
export class AddonError extends Error {
  /** Nothing is there, it cannot be loaded, or it was built from other sources than this program. */
  readonly reason: 'missing' | 'broken' | 'outdated';

  constructor(reason: AddonError['reason'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

let loaded: NativeApi | undefined;

/**
 * Loads the addon at the first call and returns the same afterwards. The file is `$TSNET_NATIVE`, or the nearest
 * `native/tsnet.node` or `build/native/tsnet.node` above the running file.
 *
 * Errors: AddonError, naming the places searched when the addon is not built, with the error of `dlopen` when it cannot be
 * loaded, or with both numbers when it has another `interfaceVersion`.
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
    throw new AddonError('broken', `cannot load the native addon ${file}: ${reason}`, cause);
  }
  const { interfaceVersion: built = 0, ...native } = module.exports as NativeApi & { interfaceVersion?: number };
  if (built === interfaceVersion) return native;
  const age = built < interfaceVersion ? 'older' : 'newer';
  const versions = `its interface is ${built}, ${interfaceVersion} is needed`;
  throw new AddonError('outdated', `the native addon ${file} is ${age} than this program: ${versions}`);
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
  throw new AddonError(
    'missing',
    `the native addon is not built: no native/tsnet.node at or above ${start}; run: npm run build`,
  );
}

/** The folder of this code, as a module of its own or bundled into a CommonJS or ES module file. */
function runningFolder(): string {
  return typeof __dirname === 'string' ? __dirname : dirname(fileURLToPath(import.meta.url));
}
