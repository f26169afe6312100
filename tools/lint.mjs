#!/usr/bin/env node
/** Lint, format and import rules; prints what is wrong, nothing else. */
import { spawn } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectRoot, runTool } from './setup.mjs';
import { elapsed, say, SetupError } from './setup/progress.mjs';

const folders = ['core', 'lib', 'native', 'controller', 'agent', 'cni-plugin', 'cli', 'bin', 'test', 'bench'];

/** Prettier looks at one file at a time, so what it has found well stays so until the file changes. */
const remembering = ['--cache', '--cache-strategy=content', '--cache-location=build/lint/prettier'];

const checks = [
  ['eslint', 'eslint/bin/eslint.js', ['.', '--max-warnings=0']],
  ['prettier', 'prettier/bin/prettier.cjs', ['--check', '--log-level=warn', ...remembering, '.']],
  ['imports', 'dependency-cruiser/bin/dependency-cruise.mjs', ['--config', '.dependency-cruiser.cjs', ...folders]],
];

/** Runs all checks side by side, behind everything else the machine does. Errors: SetupError naming those that failed. */
export async function lint() {
  const startedMs = performance.now();
  const results = await Promise.all(checks.map(([name, program, args]) => check(name, program, args)));
  const failed = results.filter((result) => !result.ok).map((result) => result.name);
  if (failed.length > 0) throw new SetupError(`Lint found faults (${failed.join(', ')}), listed above.`);
  say('lint', `clean (${elapsed(startedMs)})`);
}

function check(name, program, args) {
  return new Promise((resolve, reject) => {
    const command = ['-n', '19', process.execPath, join(projectRoot, 'node_modules', program), ...args];
    const child = spawn('nice', command, {
      cwd: projectRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = [];
    child.stdout.on('data', (chunk) => output.push(chunk));
    child.stderr.on('data', (chunk) => output.push(chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code !== 0) process.stdout.write(`\n── ${name}\n${Buffer.concat(output).toString('utf8')}`);
      resolve({ name, ok: code === 0 });
    });
  });
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await runTool(lint);
}
