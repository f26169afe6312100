import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Attacher } from '../core/attacher.js';
import type { Logger } from '../lib/log.js';
import { runDelegate } from './delegate.js';
import { toCniError, formatError } from './error.js';
import { decodeFrame, frameType, maxFrameBytes } from './frame.js';
import { CniPlugin, type Caller, type CniAnswer } from './plugin.js';
import { Spool } from './spool.js';
import { latestVersion } from './version.js';

export interface CniServiceOptions {
  readonly app: FastifyInstance;
  readonly attacher: Attacher;
  readonly log: Logger;
  /** The agent's socket; the spool stands beside it. */
  readonly socket: string;
}

/**
 * Serves the native program: `POST /v1/agent/cni` with a frame. The answer's body is what it prints, the header
 * `cni-exit` its status. Resolves, once the spool has been done, with what ends it.
 */
export async function startCniService(options: CniServiceOptions): Promise<() => Promise<void>> {
  const { app, attacher, log } = options;
  const nobody = { isGone: () => false };
  const spool: Spool = new Spool({
    folder: join(dirname(options.socket), 'cni-spool'),
    act: (call) => plugin.call(call, nobody),
    log,
  });
  const plugin: CniPlugin = new CniPlugin({
    attacher,
    delegate: runDelegate,
    log,
    settle: () => (spool.isIdle() ? undefined : spool.drain()),
  });
  app.addContentTypeParser(frameType, { parseAs: 'buffer', bodyLimit: maxFrameBytes }, (_request, body, done) =>
    done(null, body),
  );
  app.post<{ Body: unknown }>('/v1/agent/cni', { bodyLimit: maxFrameBytes }, async (request, reply) => {
    const { raw } = reply;
    const caller = { isGone: () => raw.destroyed || raw.socket?.destroyed !== false };
    const answer = await answerTo({ plugin, spool }, request.body, caller);
    void reply
      .header('cni-exit', String(answer.exit))
      .type('application/json')
      .serializer((text: unknown) => String(text));
    return reply.send(answer.stdout);
  });
  await spool.start();
  return async () => {
    await spool.close();
    await plugin.idle();
  };
}

interface ServiceParts {
  readonly plugin: CniPlugin;
  readonly spool: Spool;
}

async function answerTo(parts: ServiceParts, body: unknown, caller: Caller): Promise<CniAnswer> {
  const { plugin, spool } = parts;
  try {
    const call = decodeFrame(Buffer.isBuffer(body) ? body : Buffer.alloc(0));
    const answer = await plugin.call(call, caller);
    if (answer.exit === 0 && call.environment['CNI_COMMAND'] === 'ADD') await spool.forget(call);
    return answer;
  } catch (error) {
    return { exit: 1, stdout: formatError(toCniError(error), latestVersion) };
  }
}
