import { startController } from '../../controller/main.js';
import { controllerDefaults } from '../../controller/options.js';
import { HttpClient } from '../../lib/http/client.js';
import { newLogger } from '../../lib/log.js';

// A controller in a process of its own, for a test to kill.
const dataDir = process.argv[2] ?? '';
const controller = await startController(
  { ...controllerDefaults, listen: ['http://127.0.0.1:0'], dataDir },
  newLogger('controller', 'silent'),
);
const client = new HttpClient({ base: controller.urls[0] ?? '', unreachable: 'ERR_CONTROLLER_UNREACHABLE' });
await client.call('POST', '/v1/networks', { body: { name: 'made-by-victim' } });
process.stdout.write(`${String(controller.etcdPid())}\n`);
