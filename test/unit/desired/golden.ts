import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

/** Compares a text with test/golden/desired/NAME.txt; UPDATE_GOLDEN=1 writes it instead. */
export function matchGolden(t: Test, name: string, text: string): void {
  const file = fileURLToPath(new URL(`../../../../../test/golden/desired/${name}.txt`, import.meta.url));
  if (process.env['UPDATE_GOLDEN'] === '1') {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
  t.equal(text, readFileSync(file, 'utf8'), `${name} is as test/golden/desired/${name}.txt has it`);
}
