import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { encodeFrame, maxFrameBytes, type CniCall } from '../../cni-plugin/frame.js';
import type { CniAnswer } from '../../cni-plugin/plugin.js';
import { Spool } from '../../cni-plugin/spool.js';
import { newLogger } from '../../lib/log.js';
import { waitFor } from '../lab/wait.js';
import { cniEnv } from './program.js';

const log = newLogger('test', 'silent');
const callOf = (command: string, id: string, name = 'net'): CniCall => ({
  environment: cniEnv(command, { id }),
  stdin: JSON.stringify({ name }),
});

/** A spool in a folder of its own, whose calls fail for the ids that are told. */
class Rig {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsnet-spool-'));
  readonly done: string[] = [];
  readonly failing = new Set<string>();
  /** Awaited before each call is done. */
  before: (id: string) => Promise<void> = () => Promise.resolve();
  readonly spool: Spool;

  constructor(t: Test, retryMs = 20) {
    const act = async (call: CniCall): Promise<CniAnswer> => {
      const id = call.environment['CNI_CONTAINERID'] ?? '';
      this.done.push(id);
      await this.before(id);
      return { exit: this.failing.has(id) ? 1 : 0, stdout: '' };
    };
    this.spool = new Spool({ folder: this.folder, act, log, retryMs });
    t.teardown(async () => {
      await this.spool.close();
      rmSync(this.folder, { recursive: true });
    });
  }

  put(name: string, call: CniCall): void {
    writeFileSync(join(this.folder, name), encodeFrame(call));
  }

  names(): string[] {
    return readdirSync(this.folder).sort();
  }

  add(call: CniCall, work: () => Promise<void> = () => Promise.resolve()): Promise<CniAnswer> {
    return this.spool.around(call, async () => {
      await work();
      return { exit: 0, stdout: '' };
    });
  }
}

t.test('the spool keeps a DEL until it has succeeded, and drops what is none', async (t) => {
  const rig = new Rig(t);
  rig.failing.add('c2');
  rig.put('2.del', callOf('DEL', 'c2'));
  rig.put('1.del', callOf('DEL', 'c1'));
  rig.put('3.del', callOf('ADD', 'c3'));
  writeFileSync(join(rig.folder, '4.del'), 'rubbish');
  writeFileSync(join(rig.folder, '.5.part'), 'half written');
  await rig.spool.start();
  t.same(rig.done, ['c1', 'c2'], 'in order');
  t.same(rig.names(), ['.5.part', '2.del']);
  rig.failing.clear();
  await waitFor('it to be tried again', () => rig.names().length === 1);
  rig.put('6.del', callOf('DEL', 'c6'));
  await waitFor('what is added to be done', () => rig.done.includes('c6') && rig.names().length === 1);
  rig.put('7.del', callOf('DEL', 'c7'));
  await rig.spool.drain();
  t.ok(rig.done.includes('c7'), 'a drain does what stands there now');
  rig.put('8.del', callOf('DEL', 'c8'));
  const [first, second] = [rig.spool.drain(), rig.spool.drain()];
  rig.put('9.del', callOf('DEL', 'c9'));
  const third = rig.spool.drain();
  await Promise.all([first, second, third]);
  t.same(rig.done.slice(-2), ['c8', 'c9'], 'also what is added while it drains');
});

t.test('what is no file, too long or half written for long goes, and stops nothing', async (t) => {
  const rig = new Rig(t);
  mkdirSync(join(rig.folder, '1.del/inner'), { recursive: true });
  symlinkSync('/etc/hostname', join(rig.folder, '2.del'));
  symlinkSync('nowhere', join(rig.folder, '3.del'));
  t.equal(spawnSync('mkfifo', [join(rig.folder, '4.del')]).status, 0);
  writeFileSync(join(rig.folder, '5.del'), Buffer.alloc(maxFrameBytes + 1));
  writeFileSync(join(rig.folder, '6.del'), '');
  writeFileSync(join(rig.folder, '7.del'), 'CNI_COMMAND=DEL\0CNI_CONTAINERID=c');
  rig.put('8.del', callOf('DEL', 'c8'));
  writeFileSync(join(rig.folder, '.old.part'), 'half');
  writeFileSync(join(rig.folder, '.new.part'), 'half');
  const longAgo = Date.now() / 1000 - 3600;
  utimesSync(join(rig.folder, '.old.part'), longAgo, longAgo);
  await rig.spool.start();
  t.same([rig.done, rig.names()], [['c8'], ['.new.part']]);
  t.equal(rig.spool.isIdle(), true);
});

t.test('a DEL that failed neither runs into an ADD of its interface nor after it', async (t) => {
  const rig = new Rig(t);
  rig.failing.add('c1');
  rig.put('1.del', callOf('DEL', 'c1'));
  rig.put('2.del', callOf('DEL', 'c1', 'other'));
  await rig.spool.start();
  const ofNet = (): number => rig.done.length;
  let during = 0;
  await rig.add(callOf('ADD', 'c1'), async () => {
    // The other network's is tried again and again meanwhile.
    rig.put('0.del', callOf('DEL', 'c0'));
    const before = ofNet();
    await waitFor('some rounds to pass', () => ofNet() >= before + 4);
    during = rig.done.slice(before).filter((id) => id === 'c1').length;
    t.same(rig.names(), ['1.del', '2.del']);
  });
  t.ok(during >= 3, `only that of another network was tried meanwhile: ${during} times`);
  t.same(rig.names(), ['2.del'], 'what was added anew is not deleted later, and another network is not meant');
  rig.failing.clear();
  await waitFor('that to be done', () => rig.names().length === 0);
  rig.failing.add('c3');
  rig.put('3.del', callOf('DEL', 'c3'));
  await rig.spool.drain();
  await rig.spool.around(callOf('ADD', 'c3'), () => Promise.resolve({ exit: 1, stdout: '' }));
  t.same(rig.names(), ['3.del'], 'an ADD that failed leaves it');
});

t.test('10 000 calls are done, in their order, with others coming meanwhile', async (t) => {
  const rig = new Rig(t);
  for (let number = 0; number < 10_000; number += 1)
    rig.put(`${String(number).padStart(6, '0')}.del`, callOf('DEL', `c${number}`));
  rig.before = (id) => {
    if (id === 'c5000') rig.put('999999.del', callOf('DEL', 'late'));
    return Promise.resolve();
  };
  await rig.spool.start();
  await waitFor('all to be done', () => rig.names().length === 0);
  t.same([rig.done.length, rig.done.at(-1)], [10_001, 'late']);
  t.same(rig.done.slice(0, 3), ['c0', 'c1', 'c2']);
});
