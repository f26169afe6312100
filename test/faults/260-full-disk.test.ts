import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, cpSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { TsnetError } from '../../core/errors.js';
import type { LabHost } from '../lab/host.js';
import { mustExecIn, reaches } from '../lab/sandbox.js';
import { settlesTo } from '../lab/snapshot.js';
import { withLab } from '../lab/with-lab.js';

/** Puts a host's data directory, its agent being stopped, on a disk of its own; what takes it off again. */
function moveToSmallDisk(host: LabHost): () => void {
  const aside = `${host.dataDir}-aside`;
  renameSync(host.dataDir, aside);
  mkdirSync(host.dataDir);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', host.dataDir]);
  cpSync(aside, host.dataDir, { recursive: true });
  rmSync(aside, { recursive: true });
  return () => void execFileSync('umount', [host.dataDir]);
}

/** Takes all that is left of a disk; what frees it. */
function fill(folder: string): () => void {
  const path = join(folder, `filler-${randomBytes(4).toString('hex')}`);
  const file = openSync(path, 'w');
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
  return () => rmSync(path);
}

const own = (host: LabHost): Promise<readonly EndpointView[]> =>
  host.api.call<readonly EndpointView[]>('GET', '/v1/agent/endpoints');

t.test('wherever the disk is full in an attach, nothing of it is left', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    await host.agent.stop();
    const unmount = moveToSmallDisk(host);
    try {
      await host.startAgent();
      await host.create({ name: 'net' });
      const peer = await lab.sandbox();
      const [toPeer = ''] = (await host.attach('net', peer)).addresses;
      await host.published();
      for (let round = 0; round < 8; round += 1) {
        const free = fill(host.dataDir);
        const sandboxes = [];
        // The journal's last page has room for some.
        for (let failed = false; !failed;) {
          const sandbox = await lab.sandbox();
          const [before, endpoints] = [await host.snapshot(), await own(host)];
          const labels = { pad: 'x'.repeat(1 + 130 * round) };
          try {
            await host.attach('net', sandbox, { labels });
            sandboxes.push(sandbox);
          } catch (error) {
            failed = true;
            t.equal((error as TsnetError).code, 'ERR_DISK_FULL', `round ${round}, attach ${sandboxes.length}`);
            await settlesTo(t, () => host.snapshot(), before);
            t.same(await own(host), endpoints);
            t.notMatch(await mustExecIn(sandbox, 'ip', '-br', 'link'), /eth/);
          }
        }
        free();
        for (const sandbox of sandboxes) t.equal((await host.detach('net', sandbox)).detached.length, 1);
        const fresh = await lab.sandbox();
        await host.attach('net', fresh);
        await reaches(fresh, toPeer);
        t.equal((await host.detach('net', fresh)).detached.length, 1);
        await host.published();
      }
      await host.create({ name: 'second' });
      const [joined, late] = [await lab.sandbox(), await lab.sandbox()];
      await host.attach('net', joined);
      await host.published();
      const free = fill(host.dataDir);
      await t.rejects(
        (async () => {
          for (;;) await host.attach('net', await lab.sandbox());
        })(),
        { code: 'ERR_DISK_FULL' },
      );
      const refill = fill(host.dataDir);
      await t.rejects(host.attach('second', late), { code: 'ERR_DISK_FULL' });
      t.equal((await host.exec('ip', 'link', 'show', 'type', 'bridge')).stdout.match(/tsb-/g)?.length, 1);
      t.equal((await host.detach('net', joined)).detached.length, 1, 'a detach needs no free disk');
      t.notMatch(await mustExecIn(joined, 'ip', '-br', 'link'), /eth/);
      for (const { sandbox: target } of await own(host)) {
        if (target !== peer.target)
          await host.api.call('POST', '/v1/agent/detach', { body: { network: 'net', target } });
      }
      t.equal((await own(host)).length, 1);
      refill();
      free();
      await host.attach('second', late);
      t.equal((await host.detach('second', late)).detached.length, 1);
      await host.agent.stop();
    } finally {
      if (host.agent.status === undefined) await host.agent.kill();
      unmount();
    }
  });
});
