import type { BlockGrant, BlockRelease, BlockRequest, CarveAnswer } from '../../core/api/publication.js';
import type { Block } from '../../core/model.js';
import type { ControllerClient } from '../sync/controller-client.js';

/** Where a host gets blocks from and gives them back to. */
export interface BlockSource {
  request(request: BlockRequest): Promise<Block>;
  release(release: BlockRelease): Promise<void>;
  answer(carve: string, answer: CarveAnswer): Promise<void>;
}

/** A carve-out waits for its owner: longer than other calls. */
const requestTimeoutMs = 10_000;

/** The controllers as the source of a host's blocks. */
export function controllerBlocks(client: ControllerClient, host: string): BlockSource {
  const path = `/v1/hosts/${encodeURIComponent(host)}`;
  return {
    request: async (body) =>
      (await client.call<BlockGrant>('POST', `${path}/blocks`, { body, repeatable: true, timeoutMs: requestTimeoutMs }))
        .block,
    release: (body) => client.call<undefined>('POST', `${path}/blocks/release`, { body, repeatable: true }),
    answer: (carve, body) =>
      client.call<undefined>('POST', `${path}/carves/${encodeURIComponent(carve)}`, { body, repeatable: true }),
  };
}
