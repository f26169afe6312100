import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { listenTcp, type Listener, type ListenOptions } from './listener.js';
import { listenUdp } from './udp-listener.js';

/** Descriptors of one place. */
export interface PlaceSockets {
  readonly udp: number;
  readonly tcp: number;
}

/** The two sockets of a place. */
export interface OpenPlace {
  readonly udp: Listener;
  readonly tcp: Listener;
  close(): void;
}

export interface OpenPlaceOptions {
  /** Open sockets that are taken over. */
  readonly inherited: PlaceSockets | undefined;
  /** Whether another port will do where another program has port 53: the agent then leads packets there. */
  readonly atAnyPort: boolean;
  /** Until then who has the port may be the agent, with a duplicate of what was closed here a moment ago. */
  readonly againUntilMs: number;
}

type Listen = (options: ListenOptions) => Promise<Listener>;
type Base = Omit<ListenOptions, 'port' | 'inherited'>;

const dnsPort = 53;
const againMs = 20;

/** Opens a place for UDP and TCP. Errors: NativeError (EADDRINUSE where the port is taken). */
export async function openPlace(base: Base, options: OpenPlaceOptions): Promise<OpenPlace> {
  const { inherited } = options;
  const udp = await openSocket(listenUdp, withSocket(base, inherited?.udp), options);
  const tcp = await openSocket(listenTcp, withSocket(base, inherited?.tcp), options).catch((error: unknown) => {
    udp.close();
    throw error;
  });
  return {
    udp,
    tcp,
    close: () => {
      udp.close();
      tcp.close();
    },
  };
}

/** Closes what was taken over and is not wanted. */
export function closeSockets({ udp, tcp }: PlaceSockets): void {
  closeSync(udp);
  closeSync(tcp);
}

async function openSocket(
  listen: Listen,
  base: Omit<ListenOptions, 'port'>,
  { atAnyPort, againUntilMs }: OpenPlaceOptions,
): Promise<Listener> {
  for (;;) {
    try {
      return await listen({ ...base, port: dnsPort });
    } catch (error) {
      if ((error as { readonly code?: unknown }).code !== 'EADDRINUSE') throw error;
      if (performance.now() >= againUntilMs) {
        if (atAnyPort) return listen({ ...base, port: 0 });
        throw error;
      }
    }
    await sleep(againMs);
  }
}

function withSocket(base: Base, inherited: number | undefined): Omit<ListenOptions, 'port'> {
  return inherited === undefined ? base : { ...base, inherited };
}
