import t from 'tap';
import { canPing, reaches, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

/** Reports whether an address was reached within a second, without what a probe of itself costs on this machine. */
async function isReachedSoon(watcher: Sandbox, address: string): Promise<{ isSoon: boolean; what: string }> {
  const probeMs = await reaches(watcher, '127.0.0.1');
  const tookMs = await reaches(watcher, address, 40_000);
  return {
    isSoon: tookMs < 1000 + 4 * probeMs,
    what: `reached after ${tookMs.toFixed(0)} ms, where a probe of itself takes ${probeMs.toFixed(0)} ms`,
  };
}

t.test('a container made again with its address on another host is reached within a second', async (t) => {
  await withLab(t, { hosts: 3, agentArgs: ['--quarantine', '60s'] }, async (lab) => {
    await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.72.0.0/24' }, { subnet: 'fd10:72::/64' }] });
    const addresses = ['10.72.0.77', 'fd10:72::77'];
    const watcher = await lab.sandbox();
    await lab.host(3).attach('net', watcher, { addresses: ['10.72.0.203', 'fd10:72::200'] });
    const macs = new Set<string>();
    let host = 1;
    for (const next of [2, 1, 3]) {
      const [before, after] = [await lab.sandbox(), await lab.sandbox()];
      macs.add((await lab.host(host).attach('net', before, { addresses })).mac);
      for (const address of addresses) await reaches(watcher, address);
      await lab.host(host).detach('net', before);
      for (const address of addresses)
        t.notOk(await canPing(watcher, address, { timeoutMs: 200 }), `${address} is gone`);
      const endpoint = await lab.host(next).attach('net', after, { addresses });
      macs.add(endpoint.mac);
      t.same(endpoint.addresses, addresses);
      for (const address of addresses) {
        const { isSoon, what } = await isReachedSoon(watcher, address);
        t.ok(isSoon, `${address} moved from h${host} to h${next}, ${what}`);
      }
      await lab.host(next).detach('net', after);
      host = next;
    }
    t.equal(macs.size, 1, 'it kept its MAC');
  });
});

t.test('an address made again with another MAC is reached within a second all the same', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.73.0.0/24' }, { subnet: 'fd10:73::/64' }] });
    const addresses = ['10.73.0.9', 'fd10:73::9'];
    const [watcher, first, second] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
    await lab.host(2).attach('net', watcher, { addresses: ['10.73.0.203', 'fd10:73::200'] });
    await lab.host(1).attach('net', first, { addresses, mac: '02:00:00:00:00:01' });
    for (const address of addresses) await reaches(watcher, address);
    await lab.host(1).detach('net', first);
    await lab.host(1).attach('net', second, { addresses, mac: '02:00:00:00:00:02' });
    for (const address of addresses) {
      const { isSoon, what } = await isReachedSoon(watcher, address);
      t.ok(isSoon, `${address} ${what}`);
    }
  });
});

t.test('an address that lives on another host is refused, and the error says where', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.74.0.0/24' }] });
    const [holder, late] = [await lab.sandbox(), await lab.sandbox()];
    await lab.host(1).attach('net', holder, { addresses: ['10.74.0.9'] });
    await lab.host(1).published();
    const refused = await lab
      .host(2)
      .attach('net', late, { addresses: ['10.74.0.9'] })
      .then(
        () => undefined,
        (error: unknown) => error,
      );
    t.match(refused, { code: /^ERR_ADDRESS_(IN_USE|HELD_ELSEWHERE)$/, message: /h1/ });
    await lab.host(1).detach('net', holder);
    const granted = await waitFor('the address to be given once it is free', () =>
      lab.host(2).attach('net', late, { addresses: ['10.74.0.9'] }),
    );
    t.same(granted.addresses, ['10.74.0.9']);
  });
});

t.test('a MAC that another endpoint of the network has is refused', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [first, second, third] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
    const mac = '02:00:00:00:00:0a';
    for (const name of ['one', 'two']) await lab.host(1).create({ name });
    const endpoint = await lab.host(1).attach('one', first, { mac });
    await t.rejects(lab.host(1).attach('one', second, { mac }), { code: 'ERR_MAC_IN_USE', message: endpoint.id });
    await lab.host(1).attach('two', second, { mac });
    await lab.host(1).detach('one', first);
    t.equal((await lab.host(1).attach('one', second, { mac })).mac, mac, 'free again');

    await lab.host(1).published();
    const refused = lab.host(2).attach('one', third, { mac });
    await t.rejects(refused, { code: 'ERR_MAC_IN_USE', message: /on host h1/ }, 'also where it is on another host');
    await lab.host(1).detach('one', second);
    t.equal((await lab.host(2).attach('one', third, { mac })).mac, mac, 'which may have let go of it just now');

    const both = await Promise.allSettled(
      [first, second].map((sandbox) => lab.host(1).attach('two', sandbox, { mac: '02:00:00:00:00:0b' })),
    );
    t.same(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'of two at once one has it');
  });
});
