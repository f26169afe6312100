import { readFileSync } from 'node:fs';
import t from 'tap';
import { driverOf, drivers } from '../../../core/desired/drivers.js';
import {
  checkFeature,
  featureTable,
  featureTexts,
  formatFeatureTable,
  type Feature,
} from '../../../core/desired/feature.js';
import { checkDriverOptions, formatDriverOptions } from '../../../core/desired/option.js';
import type { DriverName } from '../../../core/model.js';
import { newCarrier, newContext, newEndpoint, newNetwork } from './records.js';

const document = readFileSync(new URL('../../../../../docs/drivers.md', import.meta.url), 'utf8');
const names = Object.keys(drivers) as DriverName[];

t.test('docs/drivers.md has the tables of the code', async (t) => {
  t.ok(document.includes(`\n${formatFeatureTable()}<!-- end of features -->`), 'features');
  t.ok(document.includes(`\n${formatDriverOptions()}<!-- end of options -->`), 'options');
});

t.test('what the table refuses is refused with its error, and nothing else', async (t) => {
  for (const driver of names) {
    for (const feature of Object.keys(featureTexts) as Feature[]) {
      const entry = featureTable[driver][feature];
      if (entry.state === 'refused')
        t.throws(() => checkFeature(driver, feature), { code: entry.error }, `${driver}: ${feature}`);
      else t.doesNotThrow(() => checkFeature(driver, feature), `${driver}: ${feature}`);
    }
  }
});

t.test('the table says what the drivers do', async (t) => {
  for (const name of names) {
    const driver = driverOf(name);
    const table = driver.features;
    const ctx = newContext(newNetwork(name));
    const endpoint = newEndpoint(ctx.network, 'h1');
    const network = driver.networkObjects(ctx);
    t.equal(table, featureTable[name], `${name}: one table`);
    t.equal(
      network.some(({ kind }) => kind === 'vxlan'),
      table['vni'].state === 'supported',
      `${name}: VNI`,
    );
    t.equal(
      driver.carrierObjects(ctx, newCarrier(ctx.network)).length > 0,
      name === 'overlay' && table['cross-host'].state === 'supported',
      `${name}: across hosts by objects of the host`,
    );
    const hostAccess = network.some(({ kind }) => kind === 'addr');
    t.equal(hostAccess, table['host-access'].state === 'supported', `${name}: the host reaches its endpoints`);
    const plan = driver.sandbox(ctx, endpoint, { defaultRouteFamilies: [4, 6] });
    t.same(
      plan.routes.map(({ dst }) => dst),
      ['0.0.0.0/0', '::/0'],
      `${name}: default routes`,
    );
    t.equal(plan.link.mtu, ctx.network.mtu, `${name}: MTU`);
    t.equal(plan.link.kind === 'veth' ? plan.link.peer.mac : plan.link.mac, endpoint.mac, `${name}: MAC`);
    t.equal(plan.link.kind === 'veth' ? plan.link.peer.ifname : plan.link.ifname, 'eth0', `${name}: interface name`);
    const entry = table['host-access'];
    if (entry.state !== 'option') continue;
    const [option = '', value = ''] = entry.option.split('=');
    const shimmed = newContext(newNetwork(name, { options: { ...ctx.network.options, [option]: value } }));
    t.ok(
      driver.networkObjects(shimmed).some(({ kind }) => kind === 'addr'),
      `${name}: with ${entry.option}`,
    );
  }
});

t.test('options are checked by name and value', async (t) => {
  t.doesNotThrow(() => checkDriverOptions('overlay', {}));
  t.doesNotThrow(() => checkDriverOptions('overlay', { 'masquerade-source': '198.18.0.1,2001:db8::1' }));
  t.doesNotThrow(() => checkDriverOptions('macvlan', { parent: 'eth1', mode: 'vepa' }));
  t.doesNotThrow(() => checkDriverOptions('macvlan', { parent: 'bond0.7', 'host-shim': 'true' }));
  const refused: readonly (readonly [DriverName, Record<string, string>, string])[] = [
    ['overlay', { parent: 'eth1' }, 'options.parent'],
    ['bridge', { toString: 'x' }, 'options.toString'],
    ['bridge', { 'masquerade-source': 'eth0' }, 'options.masquerade-source'],
    ['bridge', { 'masquerade-source': '198.18.0.256' }, 'options.masquerade-source'],
    ['overlay', { 'masquerade-source': '198.18.0.1,198.18.0.2' }, 'options.masquerade-source'],
    ['overlay', { 'masquerade-source': '127.0.0.1' }, 'options.masquerade-source'],
    ['overlay', { 'masquerade-source': '198.18.0.1', masquerade: 'false' }, 'options.masquerade-source'],
    ['macvlan', { parent: 'eth1', 'masquerade-source': '198.18.0.1' }, 'options.masquerade-source'],
    ['macvlan', {}, 'options.parent'],
    ['macvlan', { parent: '' }, 'options.parent'],
    ['macvlan', { parent: 'a/b' }, 'options.parent'],
    ['macvlan', { parent: 'sixteen-bytes-xx' }, 'options.parent'],
    ['macvlan', { parent: 'eth1', mode: 'passthru' }, 'options.mode'],
    ['macvlan', { parent: 'eth1', 'host-shim': 'yes' }, 'options.host-shim'],
    ['macvlan', { parent: 'eth1', mode: 'private', 'host-shim': 'true' }, 'options.host-shim'],
  ];
  for (const [driver, options, field] of refused) {
    t.throws(
      () => checkDriverOptions(driver, options),
      { code: 'ERR_INVALID_OPTION', details: { field } },
      `${driver} ${JSON.stringify(options)}`,
    );
  }
});
