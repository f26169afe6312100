import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { canPing, mustExecIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

/** Reports whether an address was reached within a second of one that nobody had before, which is as new and waited for beside it. */
async function isReachedSoon(
  watcher: Sandbox,
  address: string,
  fresh: string,
): Promise<{ isSoon: boolean; what: string }> {
  const [tookMs, freshMs] = await Promise.all([reaches(watcher, address, 60_000), reaches(watcher, fresh)]);
  return {
    isSoon: tookMs < 1000 + 2 * freshMs,
    what: `${address} reached after ${tookMs.toFixed(0)} ms, where a new one takes ${freshMs.toFixed(0)} ms`,
  };
}

/** Attaches sandboxes at the same time: one with certain addresses, one with such as come. */
async function attachBoth(
  host: LabHost,
  [certain, fresh]: readonly [Sandbox, Sandbox],
  more: object,
): Promise<readonly [EndpointView, EndpointView]> {
  return Promise.all([host.attach('net', certain, more), host.attach('net', fresh)]);
}

t.test('fixed addresses', (t) =>
  withSharedLab(
    t,
    { hosts: 3, agentArgs: ['--quarantine', '60s'] },
    {
      'a container made again with its address on another host is reached within a second': async (t, lab) => {
        await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.72.0.0/24' }, { subnet: 'fd10:72::/64' }] });
        const addresses = ['10.72.0.78', 'fd10:72::77'];
        const watcher = await lab.sandbox();
        await lab.host(3).attach('net', watcher, { addresses: ['10.72.0.206', 'fd10:72::200'] });
        const macs = new Set<string>();
        let host = 1;
        for (const next of [2, 1, 3]) {
          const [before, after, beside] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
          macs.add((await lab.host(host).attach('net', before, { addresses })).mac);
          for (const address of addresses) await reaches(watcher, address);
          await lab.host(host).detach('net', before);
          for (const address of addresses)
            t.notOk(await canPing(watcher, address, { timeoutMs: 200 }), `${address} is gone`);
          const [endpoint, fresh] = await attachBoth(lab.host(next), [after, beside], { addresses });
          macs.add(endpoint.mac);
          t.same(endpoint.addresses, addresses);
          const pairs = addresses.map((address, at) => isReachedSoon(watcher, address, fresh.addresses[at] ?? ''));
          for (const { isSoon, what } of await Promise.all(pairs)) t.ok(isSoon, `from h${host} to h${next}: ${what}`);
          for (const sandbox of [after, beside]) await lab.host(next).detach('net', sandbox);
          host = next;
        }
        t.equal(macs.size, 1, 'it kept its MAC');
      },
      'an address made again with another MAC is reached within a second all the same': async (t, lab) => {
        await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.73.0.0/24' }, { subnet: 'fd10:73::/64' }] });
        // Late ones of their blocks: what a host gives out by itself it takes from the beginning.
        const addresses = ['10.73.0.14', 'fd10:73::e9'];
        const [watcher, first] = [await lab.sandbox(), await lab.sandbox()];
        const [second, beside] = [await lab.sandbox(), await lab.sandbox()];
        await lab.host(2).attach('net', watcher, { addresses: ['10.73.0.206', 'fd10:73::200'] });
        await lab.host(1).attach('net', first, { addresses, mac: '02:00:00:00:00:01' });
        for (const address of addresses) await reaches(watcher, address);
        // What is sent to all nodes a sandbox hears once its kernel has noted that the link is there, up to a second later.
        await waitFor('the watcher to be ready for multicast', async () => {
          const own = await mustExecIn(watcher, 'ip', '-o', '-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'link');
          return own !== '' && !own.includes('tentative');
        });
        // Whoever is told of a change knew what there was before.
        await waitFor('the other host to know of it', async () =>
          (await lab.host(2).exec('bridge', 'fdb')).stdout.includes('02:00:00:00:00:01'),
        );
        await lab.host(1).detach('net', first);
        const more = { addresses, mac: '02:00:00:00:00:02' };
        const [, fresh] = await attachBoth(lab.host(1), [second, beside], more);
        const pairs = addresses.map((address, at) => isReachedSoon(watcher, address, fresh.addresses[at] ?? ''));
        for (const { isSoon, what } of await Promise.all(pairs)) t.ok(isSoon, what);
      },
      'an address that lives on another host is refused, and the error says where': async (t, lab) => {
        await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.74.0.0/24' }] });
        const [holder, late] = [await lab.sandbox(), await lab.sandbox()];
        const addresses = ['10.74.0.14'];
        await lab.host(1).attach('net', holder, { addresses });
        await lab.host(1).published();
        const refused = await lab
          .host(2)
          .attach('net', late, { addresses })
          .then(
            () => undefined,
            (error: unknown) => error,
          );
        t.match(refused, { code: /^ERR_ADDRESS_(IN_USE|HELD_ELSEWHERE)$/, message: /h1/ });
        await lab.host(1).detach('net', holder);
        const granted = await waitFor('the address to be given once it is free', () =>
          lab.host(2).attach('net', late, { addresses }),
        );
        t.same(granted.addresses, addresses);
      },
      'a MAC that another endpoint of the network has is refused': async (t, lab) => {
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
      },
    },
  ),
);
