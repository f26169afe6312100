import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import type { Block } from '../../core/model.js';
import { Journal } from '../../agent/journal/journal.js';
import { ClusterState } from '../../agent/state/cluster-state.js';
import { ClusterSync } from '../../agent/sync/cluster-sync.js';
import { ControllerClient } from '../../agent/sync/controller-client.js';
import { StubController } from './stub-controller.js';

/** The agent's side of the cluster, without kernel and attaches. */
export interface Rig {
  readonly journal: Journal;
  readonly state: ClusterState;
  readonly sync: ClusterSync;
  readonly client: ControllerClient;
  /** Calls of the block listener, as text. */
  readonly heard: string[];
  readonly stop: () => Promise<void>;
}

export interface RigOptions {
  readonly urls: readonly string[];
  readonly dir: string;
  readonly tokenFile?: string;
  readonly missing?: (held: readonly Block[]) => readonly Block[];
}

export function newRig(options: RigOptions): Rig {
  const host = 'a';
  const log = pino({ level: 'silent' });
  const { journal } = Journal.open(options.dir);
  const state = new ClusterState({
    dataDir: options.dir,
    host,
    intervalMs: 5,
    onOwn: (sighting) => journal.observeOwn(sighting),
  });
  const client = new ControllerClient({
    urls: options.urls,
    host,
    tokenFile: options.tokenFile ?? null,
    timeoutMs: 2000,
  });
  const heard: string[] = [];
  const sync = new ClusterSync({
    host,
    client,
    journal,
    state,
    log,
    blocks: {
      blockPut: (block) => heard.push(`put ${block.cidr} ${block.generation}`),
      blockGone: (_network, cidr) => heard.push(`gone ${cidr}`),
      blockSet: (held) => {
        heard.push(`set ${held.map(({ cidr }) => cidr).join(',')}`);
        return options.missing?.(held) ?? [];
      },
      blockFenced: (_network, cidr) => heard.push(`fenced ${cidr}`),
      carvePut: (carve) => heard.push(`carve ${carve.id}`),
      carveGone: (id) => heard.push(`carve gone ${id}`),
      carveSet: (ids) => heard.push(`carves ${[...ids].join(',')}`),
    },
    register: () => ({
      vtep: '198.18.0.1',
      underlayMtu: 1500,
      bootId: 'boot',
      instance: journal.instance,
      version: '0',
    }),
  });
  const stop = async (): Promise<void> => {
    await sync.stop();
    client.close();
    await state.close();
    await journal.close();
  };
  return { journal, state, sync, client, heard, stop };
}

/** A controller and a rig that follows it, both stopped with the test. */
export async function startRig(
  t: Test,
  change: Partial<RigOptions> & { readonly before?: (rig: Rig, stub: StubController) => void } = {},
): Promise<Rig & { readonly stub: StubController; readonly dir: string }> {
  const dir = join(t.testdir(), 'agent');
  mkdirSync(dir);
  const stub = await new StubController().start();
  const rig = newRig({ urls: [stub.url], dir, ...change });
  t.teardown(async () => {
    await rig.stop();
    await stub.stop();
  });
  change.before?.(rig, stub);
  rig.sync.start();
  return { ...rig, stub, dir };
}
