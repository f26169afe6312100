import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { ServiceView } from '../../core/api/service.js';
import { canPing, reaches } from '../lab/sandbox.js';
import { ask, newBackend, ServiceProgram, type Heard } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';

t.test('state that is lost or changed on a host', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'an agent that starts without its cache takes its networks up again and cuts nobody off': async (t, lab) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        await host.create({ name: 'net' });
        const [near, far] = [await lab.sandbox(), await lab.sandbox()];
        await host.attach('net', near);
        const [address = ''] = (await other.attach('net', far)).addresses;
        for (const each of lab.hosts) await each.published();
        await reaches(near, address);
        const before = (await host.status()).reconcile.objects;
        await host.agent.kill();
        rmSync(join(host.dataDir, 'cache'));
        await host.startAgent();
        await waitFor('all to be realised again', async () => (await host.status()).reconcile.objects === before);
        const cursor = (await host.status()).cursor?.revision ?? 0;
        await lab.host(2).create({ name: 'later' });
        await waitFor('the stream to go on', async () => ((await host.status()).cursor?.revision ?? 0) > cursor);
        t.equal((await host.status()).reconcile.objects, before, 'nothing was pruned');
        await reaches(near, address);
      },
      'a renamed veth gets its name back': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const [one, two] = [await lab.sandbox(), await lab.sandbox()];
        const { id } = await host.attach('net', one);
        const [address = ''] = (await host.attach('net', two)).addresses;
        const name = `tsv-${id.slice(0, 10)}`;
        t.equal((await host.exec('ip', 'link', 'set', name, 'name', 'other')).status, 0);
        await waitFor('the name to be back', async () => (await host.exec('ip', 'link', 'show', name)).status === 0);
        await reaches(one, address);
        t.ok(await canPing(one, address));
        await host.agent.kill();
        await host.startAgent();
        const endpoints = await host.api.call<readonly EndpointView[]>('GET', '/v1/agent/endpoints');
        t.equal(endpoints.length, 2, 'and no endpoint is lost by a restart');
      },
      'a second agent in a namespace is refused before it touches anything': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        await host.attach('net', await lab.sandbox());
        const before = await host.snapshot();
        const folder = join(host.dataDir, '..', 'second');
        const { status, stderr } = await host.tsnet(
          'agent',
          '--host-name',
          'x',
          '--data-dir',
          folder,
          '--run-dir',
          folder,
        );
        t.equal(status, 1);
        t.match(stderr, /another agent runs in this network namespace/);
        t.same(await host.snapshot(), before);
      },
    },
  ),
);

t.test('a store that lost everything gets its policies back from agents', async (t) => {
  await withLab(t, { hosts: 1, etcd: 'separate' }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'net' });
    await host.api.call('PUT', '/v1/policies/shut', { body: { name: 'shut', selects: {}, ingress: [] } });
    await host.attach('net', await lab.sandbox());
    await host.published();
    const enforced = async (): Promise<boolean> =>
      /in4/.test((await host.exec('nft', 'list', 'table', 'inet', 'tsnet-policy')).stdout);
    t.ok(await enforced(), 'the policy is in force');
    await lab.controller().daemon.kill();
    await lab.etcd?.kill();
    rmSync(join(lab.folder, 'etcd'), { recursive: true });
    await lab.startEtcd();
    await lab.controller().start();
    const names = async (): Promise<string> =>
      (await host.api.call<readonly { name: string }[]>('GET', '/v1/policies')).map(({ name }) => name).join();
    await waitFor('the policy to be back', async () => (await names()) === 'shut', 30_000);
    t.ok(await enforced(), 'and it is in force');
  });
});

t.test('a store that lost everything gets its services back as they were, and they go on meanwhile', async (t) => {
  await withLab(t, { hosts: 2, etcd: 'separate' }, async (lab) => {
    const [one, two] = [lab.host(1), lab.host(2)];
    await one.create({ name: 'front', ipv6: true });
    const old = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
    const kept = await newBackend(lab, { host: 2, network: 'front', name: 'web-2' });
    const client = await lab.sandbox();
    const { addresses: own } = await two.attach('front', client);
    const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } };
    await one.api.call('POST', '/v1/services', { body: { ...body, publish: [{ hostPort: 8088 }] } });
    // One out of a block of a host, whose journal has the block.
    const fixed = (own[0] ?? '').replace(/\d+$/, (last) => String(Number(last) ^ 1));
    await one.api.call('POST', '/v1/services', { body: { ...body, name: 'fixed', addresses: [fixed] } });
    await one.api.call('POST', '/v1/services', {
      body: { ...body, name: 'each', mode: 'dnsrr', ports: [{ port: 8080 }] },
    });
    await one.api.call('PATCH', '/v1/services/web', { body: { drain: ['web-1'] } });
    const services = (): Promise<readonly ServiceView[]> => one.api.call('GET', '/v1/services');
    await waitFor(
      'all of them',
      async () => (await services()).every(({ endpoints }) => endpoints.length === 2),
      30_000,
    );
    const before = await services();
    const addresses = before.flatMap((service) => service.addresses);
    t.equal(addresses.length, 4);
    for (const address of addresses)
      await waitFor(address, async () => (await ask(client, { address, count: 1 })).failed === 0, 30_000);
    const web = before.find(({ name }) => name === 'web')?.addresses[0] ?? '';
    const drains = async (): Promise<boolean> =>
      (await ask(client, { address: web, count: 20 })).answers['web-2'] === 20;
    await waitFor('the drain to hold', drains, 30_000);
    const load = new ServiceProgram(client.enter, ['load', web, 80, 20]);
    await load.line(0);
    for (const each of lab.hosts) await each.published();
    await lab.controller().daemon.kill();
    await lab.etcd?.kill();
    rmSync(join(lab.folder, 'etcd'), { recursive: true });
    await lab.startEtcd();
    await lab.controller().start();
    const same = async (): Promise<boolean> => JSON.stringify(await services()) === JSON.stringify(before);
    await waitFor('the services as they were', same, 30_000).catch(async () => t.same(await services(), before));
    const heard = (await load.end()) as unknown as Heard;
    t.same([heard.failed, heard.errors], [0, []], 'no request failed meanwhile');
    t.same(Object.keys(heard.answers), ['web-2'], 'who drains still does');
    for (const host of lab.hosts)
      await waitFor(`${host.name} to be in step`, async () => (await host.status()).unpublished === 0, 20_000);
    await t.rejects(one.attach('front', await lab.sandbox(), { addresses: [fixed] }), { code: 'ERR_ADDRESS_IN_USE' });
    await one.api.call('PATCH', '/v1/services/web', { body: { undrain: ['web-1'] } });
    const both = async (): Promise<boolean> =>
      Object.keys((await ask(client, { address: web, count: 20 })).answers).length === 2;
    await waitFor('changes to be heard', both, 30_000);
    for (const { name } of before) await one.api.call('DELETE', `/v1/services/${name}`);
    await one.attach('front', await lab.sandbox(), { addresses: [fixed] });
    for (const { program } of [old, kept]) await program.end();
  });
});
