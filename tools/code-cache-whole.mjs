/**
 * Writes V8's compiled code of a bundled daemon, all functions of it: node tools/code-cache-whole.mjs BUNDLE.cjs CACHE
 *
 * To run it first and keep what was called, as for the CLI, would need root and etcd.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

const [, , filename, cachePath] = process.argv;

// The same text as in build/bin/tsnet, or V8 takes the cache for another script's.
const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
setFlagsFromString('--no-lazy');
const script = new Script(source, { filename });
// V8 refuses a cache that was made under other flags than it runs with.
setFlagsFromString('--lazy');
writeFileSync(cachePath, script.createCachedData());
