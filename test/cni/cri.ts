import { fileURLToPath } from 'node:url';
import { Client, credentials } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const protoPath = fileURLToPath(new URL('../../../../test/cni/cri.proto', import.meta.url));
const callTimeoutMs = 60_000;

interface Method {
  readonly path: string;
  readonly requestSerialize: (value: object) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => object;
}

export interface PodConfig {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly namespace: string;
    /** Which of the pod's sandboxes. */
    readonly attempt?: number;
  };
  readonly port_mappings?: readonly {
    readonly container_port: number;
    readonly host_port: number;
    /** 0: TCP, 1: UDP. */
    readonly protocol?: number;
    readonly host_ip?: string;
  }[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: { readonly cgroup_parent: string };
}

export interface PodStatus {
  readonly status: {
    readonly id: string;
    /** 0: ready, 1: not ready. */
    readonly state: number;
    readonly network: { readonly ip: string; readonly additional_ips: readonly { readonly ip: string }[] } | null;
  };
  readonly info: Readonly<Record<string, string>>;
}

/** A runtime's CRI socket, as a kubelet calls it. */
export class Cri {
  readonly #client: Client;
  readonly #methods = new Map<string, Method>();

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
    const loaded = loadSync(protoPath, { keepCase: true, defaults: true, longs: Number, enums: Number });
    for (const service of ['runtime.v1.RuntimeService', 'runtime.v1.ImageService'])
      for (const [name, method] of Object.entries(loaded[service] ?? {})) this.#methods.set(name, method as Method);
  }

  async runPod(config: PodConfig): Promise<string> {
    const { pod_sandbox_id: id } = await this.#call<{ pod_sandbox_id: string }>('RunPodSandbox', { config });
    return id;
  }

  async stopPod(id: string): Promise<void> {
    await this.#call('StopPodSandbox', { pod_sandbox_id: id });
  }

  async removePod(id: string): Promise<void> {
    await this.#call('RemovePodSandbox', { pod_sandbox_id: id });
  }

  podStatus(id: string): Promise<PodStatus> {
    return this.#call('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
  }

  async listPods(): Promise<readonly string[]> {
    const { items } = await this.#call<{ items: readonly { id: string }[] }>('ListPodSandbox', {});
    return items.map(({ id }) => id);
  }

  /** The runtime's conditions: RuntimeReady and NetworkReady. */
  async conditions(): Promise<Readonly<Record<string, boolean>>> {
    const { status } = await this.#call<{ status: { conditions: readonly { type: string; status: boolean }[] } }>(
      'Status',
      {},
    );
    return Object.fromEntries(status.conditions.map(({ type, status: holds }) => [type, holds]));
  }

  async hasImage(image: string): Promise<boolean> {
    const answer = await this.#call<{ image: object | null }>('ImageStatus', { image: { image } });
    return answer.image !== null;
  }

  close(): void {
    this.#client.close();
  }

  #call<T>(name: string, request: object): Promise<T> {
    const method = this.#methods.get(name);
    if (method === undefined) throw new Error(`${name} is not in ${protoPath}`);
    const { path, requestSerialize, responseDeserialize } = method;
    const options = { deadline: Date.now() + callTimeoutMs };
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error, answer) => {
        if (error === null && answer !== undefined) resolve(answer as T);
        else reject(error ?? new Error(`${name}: no answer`));
      });
    });
  }
}
