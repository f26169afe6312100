import { dirname, join } from 'node:path';
import type { Attacher } from '../core/attacher.js';
import type { Logger } from '../lib/log.js';
import type { NativeApi } from '../native/api.js';
import { runDelegate } from './delegate.js';
import { toCniError, formatError } from './error.js';
import { decodeFrame } from './frame.js';
import { CniPlugin, type Caller, type CniAnswer } from './plugin.js';
import { cniSocketPath, serveCalls } from './socket.js';
import { Spool } from './spool.js';
import { latestVersion } from './version.js';

export interface CniServiceOptions {
  readonly native: Pick<NativeApi, 'callServe'>;
  readonly attacher: Attacher;
  readonly log: Logger;
  /** The agent's socket; ours and the spool stand beside it. */
  readonly socket: string;
}

/** Serves the native program. Resolves, once the spool has been done, with what ends it. */
export async function startCniService(options: CniServiceOptions): Promise<() => Promise<void>> {
  const { native, attacher, log, socket } = options;
  const nobody = { isGone: () => false };
  const spool: Spool = new Spool({
    folder: join(dirname(socket), 'cni-spool'),
    act: (call) => plugin.call(call, nobody),
    log,
  });
  const plugin: CniPlugin = new CniPlugin({
    attacher,
    delegate: runDelegate,
    log,
    settle: () => (spool.isIdle() ? undefined : spool.drain()),
  });
  await spool.start();
  const close = await serveCalls(native, cniSocketPath(socket), (frame, caller) =>
    answerTo({ plugin, spool }, frame, caller),
  );
  return async () => {
    close();
    await spool.close();
    await plugin.idle();
  };
}

interface ServiceParts {
  readonly plugin: CniPlugin;
  readonly spool: Spool;
}

/** Never rejects. */
async function answerTo({ plugin, spool }: ServiceParts, frame: Buffer, caller: Caller): Promise<CniAnswer> {
  try {
    const call = decodeFrame(frame);
    const act = (): Promise<CniAnswer> => plugin.call(call, caller);
    return await (call.environment['CNI_COMMAND'] === 'ADD' ? spool.around(call, act) : act());
  } catch (error) {
    return { exit: 1, stdout: formatError(toCniError(error), latestVersion) };
  }
}
