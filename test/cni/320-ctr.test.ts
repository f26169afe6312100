import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { ProgramError } from '../lab/program.js';
import { reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { Containerd } from './containerd.js';

t.test('ctr run --cni attaches, and what dies without a DEL is taken back', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'net' });
    const far = await lab.sandbox();
    const there = await lab.host(2).attach('net', far);
    const endpoints = (): Promise<EndpointView[]> => host.api.call('GET', '/v1/agent/endpoints');
    const containerd = new Containerd(host);
    try {
      await containerd.start();
      await containerd.installForCtr('net');

      const foreground = await containerd.run('once', ['--rm'], '/bin/ip', '-o', '-4', 'addr', 'show', 'dev', 'eth0');
      if (foreground.status !== 0) throw new ProgramError(foreground);
      t.match(foreground.stdout, /inet 10\.\d+\.\d+\.\d+\/\d+/, 'a container in the foreground has an address');
      t.same(await endpoints(), [], 'and gives it back at its end');

      const background = await containerd.run('stays', ['-d'], '/bin/sleep', '1000000');
      if (background.status !== 0) throw new ProgramError(background);
      const [endpoint] = await endpoints();
      t.match(endpoint, { callerId: 'default-stays', ifname: 'eth0', labels: { 'cni.runtime': 'ctr' } });
      await reaches(far, endpoint?.addresses[0] ?? '');
      const [, pid = ''] = /^stays\s+(\d+)/m.exec((await containerd.ctr('tasks', 'ls')).stdout) ?? [];
      const sandbox = { name: 'stays', target: `pid:${pid}`, enter: ['nsenter', `--net=/proc/${pid}/ns/net`, '--'] };
      await reaches(sandbox, there.addresses[0] ?? '');
      process.kill(Number(pid), 'SIGKILL');
      await waitFor('the endpoint of the dead container to be gone', async () => (await endpoints()).length === 0);
      t.pass('a container in the background that died without a DEL is taken back');

      await host.create({ name: 'six', subnets: [{ subnet: 'fd86::/64' }] });
      await containerd.installForCtr('six', 'net');
      const six = await containerd.run('six', ['--rm'], '/bin/ip', '-o', '-6', 'addr', 'show', 'dev', 'eth0');
      t.match(six.stdout, /inet6 fd86::/, 'on a network without IPv4');
    } finally {
      await containerd.remove();
    }
    t.same(await endpoints(), [], 'nothing is left');
  });
});
