#!/usr/bin/env node
/** `npm run bench -- NAME`: set-up, then one of the benchmarks of bench/. */
import { join } from 'node:path';
import { projectRoot, runTool, setUp } from './setup.mjs';

await runTool(async () => {
  await setUp();
  // In this process, which takes its lab down when a signal ends it.
  await import(join(projectRoot, 'build', 'js', 'bench', 'main.js'));
});
