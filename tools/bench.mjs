#!/usr/bin/env node
/** `npm run bench -- NAME`: set-up, then one of the benchmarks of bench/. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { projectRoot, runTool, setUp } from './setup.mjs';

await runTool(async () => {
  await setUp();
  const program = join(projectRoot, 'build', 'js', 'bench', 'main.js');
  const { status } = spawnSync(process.execPath, [program, ...process.argv.slice(2)], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
});
