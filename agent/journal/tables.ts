import type { Block } from '../../core/model.js';
import type {
  BlockReturn,
  CarveDecision,
  HostAddress,
  JournalMeta,
  JournalValue,
  OwnCarrier,
  OwnEndpoint,
  Resting,
  Tombstone,
  WrittenResolvConf,
} from './entries.js';

/** The entries of a journal by kind; endpoints by id, carriers by network, the others by their journal key. */
export class JournalTables {
  readonly endpoints = new Map<string, OwnEndpoint>();
  readonly carriers = new Map<string, OwnCarrier>();
  readonly gone = new Map<string, Tombstone>();
  readonly blocks = new Map<string, Block>();
  readonly hostAddresses = new Map<string, HostAddress>();
  readonly carves = new Map<string, CarveDecision>();
  readonly returns = new Map<string, BlockReturn>();
  readonly resting = new Map<string, Resting>();
  readonly resolvConfs = new Map<string, WrittenResolvConf>();
  meta: JournalMeta | undefined;

  /** Puts an entry into its map; returns the highest generation of this host in it. */
  load(key: string, value: JournalValue): number {
    switch (kindOf(key)) {
      case 'endpoint': {
        const own = value as OwnEndpoint;
        this.endpoints.set(own.record.id, own);
        return Math.max(own.record.generation, own.publishedGeneration);
      }
      case 'carrier': {
        const own = value as OwnCarrier;
        this.carriers.set(own.record.network, own);
        return Math.max(own.record.generation, own.publishedGeneration);
      }
      case 'gone':
        this.gone.set(key, value as Tombstone);
        return (value as Tombstone).generation;
      case 'block':
        this.blocks.set(key, value as Block);
        return 0;
      case 'host-address':
        this.hostAddresses.set(key, value as HostAddress);
        return 0;
      case 'carve':
        this.carves.set(key, value as CarveDecision);
        return 0;
      case 'return':
        this.returns.set(key, value as BlockReturn);
        return 0;
      case 'resting':
        this.resting.set(key, value as Resting);
        return 0;
      case 'resolv-conf':
        this.resolvConfs.set(key, value as WrittenResolvConf);
        return 0;
      case 'meta':
        this.meta = value as JournalMeta;
        return 0;
      default:
        return 0;
    }
  }

  /** Drops what stands under a key. */
  unload(key: string): void {
    const rest = key.slice(key.indexOf('/') + 1);
    switch (kindOf(key)) {
      case 'endpoint':
        this.endpoints.delete(rest);
        break;
      case 'carrier':
        this.carriers.delete(rest);
        break;
      default:
        this.gone.delete(key);
        this.blocks.delete(key);
        this.hostAddresses.delete(key);
        this.carves.delete(key);
        this.returns.delete(key);
        this.resting.delete(key);
        this.resolvConfs.delete(key);
    }
  }
}

function kindOf(key: string): string {
  return key.split('/', 1)[0] ?? key;
}
