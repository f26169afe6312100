import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { say } from './progress.mjs';
import { failingPoints } from './tap-points.mjs';

const mostLines = 60;
const mostSummaryLines = 6;
/** Of a file that failed without a failing point. */
const lastLines = 30;

/** What is said of test files as they end, and of all of them at the end. Whole outputs of failed ones go to a folder. */
export class TestReport {
  #folder;
  #root;
  #failed = new Map();
  #unsteady = [];

  constructor(root) {
    this.#root = root;
    this.#folder = join(root, 'build', 'test', 'failed');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get unsteady() {
    return this.#unsteady.length;
  }

  /** One line for a file that passed; for one that did not its failing points first, and where the whole output is. */
  ended(result) {
    const { file, ms, counted, why } = result;
    const seconds = `${(ms / 1000).toFixed(1)} s`.padStart(8);
    if (counted.failed === 0) {
      say('test', `${seconds}  ${file}`);
      return;
    }
    const path = this.#write(result);
    const points = failingPoints(result.text);
    this.#failed.set(file, { points, path, why });
    const lines = points.flatMap((point) => linesOf(point));
    const shown = points.length > 0 ? lines.slice(0, mostLines) : endOf(result);
    if (lines.length > mostLines) shown.push(`(${lines.length - mostLines} lines more)`);
    say('FAILED', `${seconds}  ${file}: ${why}; whole output: ${path}`);
    process.stderr.write(`${shown.map((line) => `    ${line}\n`).join('')}`);
  }

  /** A file that had failed beside others has been run again, alone. */
  endedAlone(result) {
    const { file, counted } = result;
    const before = this.#failed.get(file);
    if (counted.failed === 0 && before !== undefined) {
      this.#failed.delete(file);
      this.#unsteady.push({ file, ...before });
      say('unsteady', `${file} passed alone`);
    } else this.ended({ ...result, isAlone: true });
  }

  /** All that failed, once more, and what is not to be relied on. */
  summary() {
    const lines = [];
    for (const [file, { points, path, why }] of this.#failed) {
      lines.push(`FAILED    ${file}: ${why}; whole output: ${path}`);
      for (const point of points)
        lines.push(
          ...linesOf(point)
            .slice(0, mostSummaryLines)
            .map((line) => `    ${line}`),
        );
    }
    for (const { file, points, path, why } of this.#unsteady) {
      const what = points.map((point) => `${point.path} (${point.place})`).join('; ') || why;
      lines.push(`unsteady: ${file} failed beside others and passed alone; what failed: ${what}; output in ${path}`);
    }
    return lines.map((line) => `${line}\n`).join('');
  }

  #write({ file, text, errors, isAlone }) {
    mkdirSync(this.#folder, { recursive: true });
    const name = relative(join('build', 'js', 'test'), file).replace(/(\.test)?\.m?js$/, '');
    const path = join(this.#folder, `${name.replaceAll('/', '-')}${isAlone === true ? '-alone' : ''}.tap`);
    writeFileSync(path, errors === '' ? text : `${text}\n# Standard error:\n${errors}`);
    return relative(this.#root, path);
  }
}

function linesOf({ path, place, said }) {
  return [path, ...(place === '' ? [] : [`    ${place}`]), ...said.map((line) => `    ${line}`)];
}

function endOf({ text, errors }) {
  return `${text}${errors}`.trimEnd().split('\n').slice(-lastLines);
}
