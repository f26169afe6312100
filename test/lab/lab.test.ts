import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab } from './lab.js';
import { isRunning } from './pid.js';
import { listRegistrations, listRemains, removeLeftovers, type Registration } from './registration.js';
import { canPing, echoBytes, execIn, listenIn, mustExecIn } from './sandbox.js';
import { takeRootSnapshot, takeSnapshot } from './snapshot.js';
import { newMachine, newUnderlay, outsideAddress } from './underlay.js';
import { waitFor } from './wait.js';

const victim = fileURLToPath(new URL('./victim-program.js', import.meta.url));

t.test('machines on the wire reach each other and the outside, and go without a trace', async (t) => {
  const before = await takeRootSnapshot();
  const lab = new Lab();
  try {
    await newUnderlay(lab.prefix);
    await newMachine({ prefix: lab.prefix, name: 'h1', number: 11, mtu: 1500 });
    await newMachine({ prefix: lab.prefix, name: 'h2', number: 12, mtu: 1500 });
    const machine = (name: string) => ({ name, target: '', enter: ['ip', 'netns', 'exec', `${lab.prefix}${name}`] });
    const [one, two] = [machine('h1'), machine('h2')];
    await waitFor('the machines to reach each other', () => canPing(one, '198.18.0.12'));
    t.ok(await canPing(one, '2001:db8:18::12'), 'over IPv6 too');
    t.ok(await canPing(one, outsideAddress), 'and what stands for the outside');
    t.ok(await canPing(one, '198.18.0.12', { packetBytes: 1500 }), 'a packet of the MTU goes through');
    t.notOk(await canPing(one, '198.18.0.12', { packetBytes: 1501, timeoutMs: 300 }), 'a larger one does not');

    const echo = await listenIn(two, 'listen-tcp', 7);
    t.match(await echoBytes(one, 'tcp', { address: '198.18.0.12', port: 7, sizeBytes: 100_000 }), {
      receivedBytes: 100_000,
    });
    await echo.end();
    const group = await listenIn(two, 'listen-group', '239.1.2.3', 5000, 'eth0');
    const sender = await listenIn(one, 'send-group', '239.1.2.3', 5000, 'eth0', 'hello');
    t.equal(await group.expect('text'), 'hello');
    await sender.end();
    await group.end();

    const path = `/run/netns/${lab.prefix}h1`;
    const snapshot = await takeSnapshot(path);
    await mustExecIn(one, 'ip', 'link', 'add', 'odd0', 'type', 'bridge');
    t.notSame(await takeSnapshot(path), snapshot, 'a snapshot sees a new link');
    await mustExecIn(one, 'ip', 'link', 'delete', 'odd0');
    t.same(await takeSnapshot(path), snapshot, 'and that it has gone');
  } finally {
    t.same(await lab.remove(), [], 'nothing remains');
    t.same(await takeRootSnapshot(), before, 'the machine outside is as before');
    t.notOk(existsSync(lab.folder), 'its folder has gone');
  }
});

t.test('a sandbox that only its process holds goes with the process', async (t) => {
  const lab = new Lab();
  try {
    const sandbox = await lab.process();
    t.match((await execIn(sandbox, 'ip', '-br', 'link')).stdout, /^lo\s/);
    await sandbox.daemon.kill();
    t.notOk(isRunning(sandbox.daemon.stamp));
  } finally {
    t.same(await lab.remove(), []);
  }
});

async function startVictim(): Promise<{ child: ReturnType<typeof spawn>; registration: Registration }> {
  const child = spawn(process.execPath, [victim], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) {
    const registration = listRegistrations().find(({ prefix }) => prefix === line);
    if (registration === undefined) throw new Error(`lab ${line} is not registered`);
    return { child, registration };
  }
  throw new Error('the victim ended early');
}

t.test('what a killed run left is removed by the next', async (t) => {
  const { child, registration } = await startVictim();
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('close', resolve));
  t.not((await listRemains(registration)).length, 0, 'the killed run left something');
  t.ok((await removeLeftovers()).includes(registration.prefix));
  t.same(await listRemains(registration), []);
});

t.test('a run that lives is not taken for a leftover, and cleans up when interrupted', async (t) => {
  const { child, registration } = await startVictim();
  await removeLeftovers();
  t.not((await listRemains(registration)).length, 0, 'it is still there');
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGINT');
  t.equal(await ended, 130);
  t.same(await listRemains(registration), []);
});
