import t from 'tap';
import { tcpFlowsOf } from '../../../agent/policy/open-connections.js';

t.test('the end whose port is listened on is the one that was connected to', async (t) => {
  const own = new Set(['10.1.0.2']);
  const socket = { listens: false, local: '10.1.0.2', localPort: 80, remote: '10.1.0.3', remotePort: 40_000 };
  const listener = { listens: true, local: '::', localPort: 80, remote: '::', remotePort: 0 };
  t.same(tcpFlowsOf([listener, socket], own), [
    { client: '10.1.0.3', clientPort: 40_000, server: '10.1.0.2', serverPort: 80 },
  ]);
  t.same(tcpFlowsOf([socket], own), [{ client: '10.1.0.2', clientPort: 80, server: '10.1.0.3', serverPort: 40_000 }]);
  t.same(tcpFlowsOf([{ ...socket, local: '127.0.0.1' }], own), [], 'what is not on its addresses is left out');
});
