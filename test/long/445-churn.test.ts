import t, { type Test } from 'tap';
import { withLab } from '../lab/with-lab.js';
import { askForAll } from './churn-asking.js';

const endpoints = 32;
const namesOfEach = 32;
const nxdomain = 3;
/** From the answer of attach or detach until every host has to know it, on a machine that others use as well. */
const boundNs = 5_000_000_000n;

interface Life {
  readonly address: string;
  readonly bornNs: bigint;
  readonly attachedNs: bigint;
  dyingNs: bigint;
  deadNs: bigint;
}

t.test('1000 names come and go, and no host answers wrongly beyond the bound', async (t: Test) => {
  await withLab(t, { hosts: 2, agentArgs: ['--dns-upstream', '127.0.0.1#9'] }, async (lab) => {
    const [h1, h2] = [lab.host(1), lab.host(2)];
    const { subnets } = await h1.create({ name: 'front' });
    const gateway = subnets[0]?.gateway ?? '';
    const askers = [];
    for (const host of [h1, h2]) {
      const sandbox = await lab.sandbox();
      await host.attach('front', sandbox, { name: `asker-${host.name}` });
      askers.push(askForAll(sandbox, gateway, { folder: lab.folder, count: endpoints * namesOfEach }));
    }
    const sandboxes = await Promise.all(Array.from({ length: endpoints }, () => lab.sandbox()));
    const lives: Life[] = [];
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    for (const [index, sandbox] of sandboxes.entries()) {
      const [name = '', ...aliases] = Array.from({ length: namesOfEach }, (_, at) => `n-${index * namesOfEach + at}`);
      const bornNs = process.hrtime.bigint();
      const { addresses } = await (index % 2 === 0 ? h1 : h2).attach('front', sandbox, { name, aliases });
      const attachedNs = process.hrtime.bigint();
      lives.push({ address: addresses[0] ?? '', bornNs, attachedNs, dyingNs: 0n, deadNs: 0n });
    }
    // Time in which answers are judged, not a wait for something to happen: it begins once the bound has passed.
    await pause(Number(boundNs / 1_000_000n) + 3000);
    for (const [index, sandbox] of sandboxes.entries()) {
      const life = lives[index];
      if (life === undefined) continue;
      life.dyingNs = process.hrtime.bigint();
      await (index % 2 === 0 ? h1 : h2).detach('front', sandbox);
      life.deadNs = process.hrtime.bigint();
    }
    await pause(Number(boundNs / 1_000_000n) + 3000);
    for (const [index, asker] of askers.entries()) {
      const counts = { before: 0, present: 0, absent: 0 };
      const wrong: unknown[] = [];
      for (const { number, atNs, rcode, address } of await asker.end()) {
        const life = lives[Math.floor(number / namesOfEach)];
        if (life === undefined) continue;
        const isThere = atNs > life.attachedNs + boundNs && atNs < life.dyingNs - boundNs / 5n;
        const isGone = atNs > life.deadNs + boundNs;
        const isRight = rcode === nxdomain ? address === '' : rcode === 0 && address === life.address;
        if (isThere) counts.present += 1;
        if (isGone) counts.absent += 1;
        if (atNs < life.bornNs - boundNs / 50n) counts.before += 1;
        if (!isRight || (isThere && address === '') || (isGone && address !== ''))
          wrong.push({ number, rcode, address, life: life.address, isThere, isGone });
      }
      t.same(wrong.slice(0, 5), [], `host ${index + 1} was never wrong`);
      t.ok(counts.present > 500 && counts.absent > 500, `host ${index + 1}: ${JSON.stringify(counts)}`);
    }
  });
});
