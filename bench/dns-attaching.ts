import { loadNative } from '../native/index.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { newPlan, type Attacher, type Plan } from './attach.js';
import { KeptConnection } from './kept-connection.js';

export const attachesPerRound = 60;
export const attachPeriodMs = 50;

/** Closed after each round. */
export interface OpenAttacher extends Attacher {
  close(): void;
}

/** By the agent, over one connection. */
export function agentAttacher(host: LabHost, network: string): () => Promise<OpenAttacher> {
  return async () => {
    const connection = await KeptConnection.open(host.api.base.slice('unix:'.length));
    const call = async (verb: string, { path }: Plan): Promise<void> => {
      await connection.post(`/v1/agent/${verb}`, { network, target: `netns:${path}` });
    };
    return {
      attach: (plan) => call('attach', plan),
      detach: (plan) => call('detach', plan),
      close: () => connection.close(),
    };
  };
}

/** Attaches one after another, at a steady rate, and takes them back; durations of the first. */
export class Attaching {
  readonly #native = loadNative();
  readonly #lab: Lab;
  readonly #subject: string;
  readonly #open: () => Promise<OpenAttacher>;
  #made = 0;

  constructor(lab: Lab, subject: string, open: () => Promise<OpenAttacher>) {
    this.#lab = lab;
    this.#subject = subject;
    this.#open = open;
  }

  /** Namespaces are made before `during` begins, and everything is taken back when both have ended. */
  async round<T>(during: () => Promise<T>): Promise<{ readonly attachMs: readonly number[]; readonly other: T }> {
    const plans = Array.from({ length: attachesPerRound }, () => newPlan(this.#lab, this.#subject, (this.#made += 1)));
    for (const { path } of plans) await this.#native.netnsCreate(path);
    const attacher = await this.#open();
    const attachMs: number[] = [];
    const other = during();
    for (const plan of plans) {
      const startedMs = performance.now();
      await attacher.attach(plan);
      const tookMs = performance.now() - startedMs;
      attachMs.push(tookMs);
      if (attachPeriodMs > tookMs) await new Promise((resolve) => setTimeout(resolve, attachPeriodMs - tookMs));
    }
    const result = await other;
    for (const plan of plans) await attacher.detach(plan);
    attacher.close();
    for (const { path } of plans) await this.#native.netnsDelete(path);
    return { attachMs, other: result };
  }
}
