import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import t from 'tap';

import { linkNames, openDescriptors, threadNames, until, withNetns } from './fixtures.js';

const loader = new URL('../../native/index.js', import.meta.url).href;

/** A worker that uses everything at once and says so; `then` is what it does after the next message. */
function startWorker(path: string, then: string): Worker {
  const source = `
    const { parentPort, workerData: path } = require('node:worker_threads');
    import(${JSON.stringify(loader)}).then(async ({ loadNative }) => {
      const native = loadNative();
      const dump = Buffer.alloc(32);
      dump.writeUInt32LE(32, 0); dump.writeUInt16LE(18, 4); dump.writeUInt16LE(0x301, 6);
      const netns = { path };
      let received = 0;
      const socket = await native.netlinkOpen({ protocol: 0, netns, groups: [1],
        onMessage: () => { received += 1; }, onError: () => undefined });
      await socket.send(dump);
      const exchanged = await native.netlinkExchange({ protocol: 0, netns, datagram: dump, answers: 1 });
      const handle = await native.netnsOpen(netns);
      const nft = await native.nftOpen(netns);
      const listed = await nft.run('list ruleset');
      const watch = native.pidfdWatch(process.pid, () => undefined);
      const late = native.netlinkExchange({ protocol: 0, netns, datagram: dump, answers: 9, timeoutMs: 400 }).catch(() => undefined);
      parentPort.postMessage({ exchanged: exchanged.length, rc: listed.rc, cookie: handle.cookie > 0n });
      await new Promise((resolve) => parentPort.once('message', resolve));
      ${then}
    });
  `;
  return new Worker(source, { eval: true, workerData: path });
}

t.test('a worker that closes everything ends by itself', async (t) => {
  const path = await withNetns(t);
  const worker = startWorker(path, 'await late; socket.close(); watch.close(); handle.close(); await nft.close();');
  t.match((await once(worker, 'message'))[0], { exchanged: 2, rc: 0, cookie: true });
  worker.postMessage('go');
  t.equal((await once(worker, 'exit'))[0], 0);
});

t.test('open sockets, waiting requests and forgotten contexts end with their worker', async (t) => {
  const path = await withNetns(t);
  const ends = [
    '',
    'process.exit(0);',
    'setImmediate(() => { throw new Error("thrown"); });',
    'for (;;) socket.sendSync(dump);',
  ];
  const warm = startWorker(path, '');
  await once(warm, 'message');
  await warm.terminate();
  await until('the threads to end', () => threadNames().length === 0);
  const descriptors = openDescriptors();
  for (let round = 0; round < 3; round += 1) {
    for (const end of ends) {
      const worker = startWorker(path, end);
      worker.on('error', () => undefined);
      const exit = new Promise((resolve) => worker.once('exit', resolve));
      t.match((await once(worker, 'message'))[0], { exchanged: 2, rc: 0, cookie: true });
      worker.postMessage('go');
      if (!end.startsWith('process') && !end.startsWith('set')) await worker.terminate();
      await exit;
    }
  }
  await until('the threads to end', () => threadNames().length === 0);
  t.same(openDescriptors(), descriptors);
  t.same(linkNames(path), ['lo']);
});

t.test('many workers use the addon at the same time', async (t) => {
  const path = await withNetns(t);
  const workers = Array.from({ length: 6 }, () => startWorker(path, ''));
  for (const [message] of await Promise.all(workers.map((worker) => once(worker, 'message')))) {
    t.match(message, { exchanged: 2, rc: 0, cookie: true });
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
});
