/**
 * Writes to a keyed log until it is killed: one line on stdout after each put. Run by keyed-log.test.ts.
 */
import { writeSync } from 'node:fs';
import { KeyedLog } from '../../../lib/keyed-log.js';

const [path = '', first = '0'] = process.argv.slice(2);
const { log } = KeyedLog.open<number>(path, { minDeadLines: 20 });

function writeMore(count: number): void {
  for (let step = 0; step < 25; step += 1) {
    const value = count + step;
    log.put(`key-${value % 10}`, value);
    writeSync(1, `${value}\n`);
  }
  setImmediate(writeMore, count + 25);
}

writeMore(Number(first));
