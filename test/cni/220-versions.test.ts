import { join } from 'node:path';
import t from 'tap';
import { supportedVersions } from '../../cni-plugin/version.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { mustExecIn } from '../lab/sandbox.js';
import { withSharedLab } from '../lab/with-lab.js';
import { cniEnv, errorOf, referenceDir, runPlugin, type PluginResult } from './program.js';
import { pathOf, Runtime } from './runtime.js';

/** A value with every text in it replaced by its kind: what two plugins' answers have in common. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value === 'string') return value.includes(':') ? 'text6' : 'text';
  if (typeof value !== 'object' || value === null) return typeof value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, shapeOf(each)]),
  );
}

t.test('beside Debian’s plugins', (t) =>
  withSharedLab(
    t,
    { hosts: 1 },
    {
      'tsnet and Debian’s host-local answer alike, in every version': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net', subnets: [{ subnet: '10.77.0.0/24' }] });
        const sandbox = await lab.sandbox();
        const ranges = {
          subnet: '10.77.0.0/24',
          gateway: '10.77.0.1',
          routes: [{ dst: '0.0.0.0/0' }, { dst: '10.9.0.0/16', gw: '10.77.0.1' }],
        };
        const both = (
          command: string,
          cniVersion: string,
          container: { id: string; args?: string },
        ): Promise<PluginResult>[] => {
          const env = cniEnv(command, { ...container, netns: pathOf(sandbox) });
          const config = { cniVersion, name: 'net', type: 'bridge' };
          const ours = { ...config, ipam: { type: 'tsnet', agentSocket: host.socket, routes: ranges.routes } };
          const theirs = {
            ...config,
            ipam: { type: 'host-local', ...ranges, dataDir: join(host.dataDir, 'host-local') },
          };
          const enter = enterArgs(netnsPath(host.netns));
          return [
            runPlugin({ env, stdin: JSON.stringify(ours), enter }),
            runPlugin({ env, stdin: JSON.stringify(theirs), enter, program: join(referenceDir, 'host-local') }),
          ];
        };
        for (const version of supportedVersions.slice(0, 6)) {
          const container = { id: `c-${version}`, args: 'IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.77.0.50' };
          const [ours, theirs] = await Promise.all(both('ADD', version, container));
          t.same([ours?.status, theirs?.status], [0, 0], `${version}: ADD`);
          // A network of tsnet has a name server, and later releases of the library leave an empty dns out of 1.0.0.
          const strip = (value: unknown): unknown => ({ ...(value as object), dns: undefined });
          t.same(shapeOf(strip(ours?.json)), shapeOf(strip(theirs?.json)), `${version}: one shape`);
          t.match(JSON.stringify(ours?.json), /"10\.77\.0\.50\/24"/, `${version}: the address asked for`);
          t.match(JSON.stringify(theirs?.json), /"10\.77\.0\.50\/24"/);
          const isOld = version < '0.4.0';
          for (const result of await Promise.all(both('CHECK', version, container))) {
            t.equal(result.status, isOld ? 1 : 0, `${version}: CHECK`);
            if (isOld) t.equal(errorOf(result).code, 1);
          }
          for (const verb of ['DEL', 'DEL']) {
            for (const result of await Promise.all(both(verb, version, container)))
              t.same([result.status, result.stdout], [0, ''], `${version}: ${verb}`);
          }
        }
        for (const result of await Promise.all(both('DEL', '1.0.0', { id: 'never' })))
          t.equal(result.status, 0, 'a container that never was');
        for (const result of await Promise.all(both('CHECK', '1.0.0', { id: 'never' }))) t.equal(result.status, 1);
        for (const result of await Promise.all(both('ADD', '1.0.0', { id: 'bad', args: 'foo' })))
          t.match(errorOf(result).msg, 'ARGS: invalid pair "foo"');
      },
      'tsnet and Debian’s bridge report the same interfaces, delete what never was, and refuse a taken name': async (
        t,
        lab,
      ) => {
        const host = lab.host(1);
        await host.create({ name: 'net', subnets: [{ subnet: '10.77.0.0/24' }] });
        const enter = enterArgs(netnsPath(host.netns));
        const ipam = {
          type: 'host-local',
          subnet: '10.79.0.0/24',
          dataDir: join(host.dataDir, 'host-local'),
          routes: [{ dst: '0.0.0.0/0' }],
        };
        const reference = (command: string, container: { id: string; netns: string }): Promise<PluginResult> => {
          const config = {
            cniVersion: '0.4.0',
            name: 'other',
            type: 'bridge',
            bridge: 'cni-test0',
            isGateway: true,
            ipam,
          };
          return runPlugin({
            env: cniEnv(command, container),
            stdin: JSON.stringify(config),
            enter,
            program: join(referenceDir, 'bridge'),
          });
        };
        const runtime = new Runtime(host, { cniVersion: '0.4.0' });
        const [one, two] = [await lab.sandbox(), await lab.sandbox()];
        const ours = await runtime.call('ADD', { id: 'c1', netns: pathOf(one) });
        const theirs = await reference('ADD', { id: 'c1', netns: pathOf(two) });
        const strip = (value: unknown): unknown => ({ ...(value as object), routes: undefined, dns: undefined });
        t.same(shapeOf(strip(ours.json)), shapeOf(strip(theirs.json)));
        for (const [call, sandbox] of [
          [(command: string, id: string, netns: string) => runtime.call(command, { id, netns }), one],
          [(command: string, id: string, netns: string) => reference(command, { id, netns }), two],
        ] as const) {
          t.equal((await call('ADD', 'c2', pathOf(sandbox))).status, 1, 'eth0 is taken');
          t.ok((await mustExecIn(sandbox, 'ip', '-br', 'addr', 'show', 'dev', 'eth0')).includes('10.7'), 'and stays');
          t.same((await call('DEL', 'never', '/run/netns/tsnet-no-such')).status, 0);
          t.same((await call('DEL', 'c1', pathOf(sandbox))).status, 0);
          t.same((await call('DEL', 'c1', '')).status, 0);
        }
        await host.exec('ip', 'link', 'del', 'cni-test0');
      },
    },
  ),
);
