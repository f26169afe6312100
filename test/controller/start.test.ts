import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { startController } from '../../controller/main.js';
import { controllerDefaults, type ControllerOptions } from '../../controller/options.js';
import { newLogger } from '../../lib/log.js';
import { newTestEtcd } from './running-controller.js';

void t.test('a controller whose port is taken says so and ends, whatever it was reading', async (t) => {
  const etcd = await newTestEtcd(t);
  const dataDir = await mkdtemp(join(tmpdir(), 'tsnet-controller-'));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.teardown(() => other.close());
  const port = (other.address() as AddressInfo).port;
  const started = startController(
    { ...controllerDefaults, listen: [`http://127.0.0.1:${port}`], etcd: [etcd.endpoint], dataDir },
    newLogger('controller', 'silent'),
  ).then(
    () => 'started',
    (error: unknown) => error,
  );
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => (timer = setTimeout(() => resolve('still not ended'), 20_000)));
  t.match(await Promise.race([started, late]), { code: 'ERR_LISTEN', message: String(port) });
  clearTimeout(timer);
});

void t.test('a controller says at its start whom it asks for no token', async (t) => {
  const etcd = await newTestEtcd(t);
  const said = async (options: Partial<ControllerOptions>): Promise<string[]> => {
    const dataDir = await mkdtemp(join(tmpdir(), 'tsnet-controller-'));
    const warnings: string[] = [];
    const log = newLogger('controller', 'silent');
    log.warn = (_fields: unknown, message?: string) => void warnings.push(message ?? '');
    const controller = await startController(
      { ...controllerDefaults, listen: [`unix:${dataDir}/a.sock`], etcd: [etcd.endpoint], dataDir, ...options },
      log,
    );
    await controller.close();
    await rm(dataDir, { recursive: true, force: true });
    return warnings.filter((message) => message.includes('without a token'));
  };
  const listen = ['http://127.0.0.1:0'];
  t.match(await said({ listen }), [/--require-loopback-token.*unix:PATH/]);
  t.same(await said({ listen, requireLoopbackToken: true }), [], 'not where it asks for one');
  t.same(await said({}), [], 'nor on a socket that is its own');
});
