import { connect, createServer, type Socket } from 'node:net';

/** A TCP proxy that loses connections as a test wants. */
export interface CuttingProxy {
  readonly port: number;
  /** Ends every connection after this many bytes from the server; Infinity for never. */
  cutAfterBytes: number;
  /** Drops what the server says, keeping connections open. */
  isMute: boolean;
  /** Refuses new connections. */
  isClosed: boolean;
  readonly cuts: () => number;
  readonly cutNow: () => void;
  readonly remove: () => Promise<void>;
}

export async function newCuttingProxy(serverPort: number): Promise<CuttingProxy> {
  const pairs = new Set<() => void>();
  let cuts = 0;
  const server = createServer((near) => {
    if (proxy.isClosed) {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ host: '127.0.0.1', port: serverPort });
    const end = joinEnds(near, far);
    pairs.add(end);
    near.once('close', () => pairs.delete(end));
    let bytes = 0;
    near.on('data', (chunk) => far.write(chunk));
    far.on('data', (chunk) => {
      bytes += chunk.length;
      if (!proxy.isMute) near.write(chunk);
      if (bytes > proxy.cutAfterBytes) {
        cuts += 1;
        end();
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const proxy: CuttingProxy = {
    port: address !== null && typeof address === 'object' ? address.port : 0,
    cutAfterBytes: Infinity,
    isMute: false,
    isClosed: false,
    cuts: () => cuts,
    cutNow: () => {
      for (const end of [...pairs]) end();
    },
    remove: async () => {
      for (const end of [...pairs]) end();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

function joinEnds(near: Socket, far: Socket): () => void {
  const end = (): void => {
    near.destroy();
    far.destroy();
  };
  for (const socket of [near, far]) {
    socket.on('error', end);
    socket.on('close', end);
  }
  return end;
}
