import { parseMark, type LinkMark } from '../../core/ids.js';
import type { Link } from '../../lib/netlink/link-value.js';

/** What is remembered of every link of the namespace, ours or not. */
export interface LinkEntry {
  readonly name: string;
  readonly ifindex: number;
  readonly alias: string;
  /** Null for a link that is not ours. */
  readonly mark: LinkMark | null;
  readonly kind: string;
  readonly up: boolean;
  readonly group: number;
  /** VNI of a VXLAN device. */
  readonly vni: number | null;
}

/** The part of a link that the table keeps. */
export function linkEntry(link: Link): LinkEntry {
  const alias = link.alias ?? '';
  return {
    name: link.ifname,
    ifindex: link.ifindex,
    alias,
    mark: parseMark(alias),
    kind: link.kind ?? '',
    up: link.up === true,
    group: link.group ?? 0,
    vni: link.vxlan?.id ?? null,
  };
}

/** Links by name and by ifindex. */
export class LinkTable {
  readonly #byName = new Map<string, LinkEntry>();
  readonly #byIndex = new Map<number, LinkEntry>();

  byName(name: string): LinkEntry | undefined {
    return this.#byName.get(name);
  }

  byIndex(ifindex: number): LinkEntry | undefined {
    return this.#byIndex.get(ifindex);
  }

  /** Reports whether there is a link of that name with our mark. */
  isOurs(name: string): boolean {
    const mark = this.#byName.get(name)?.mark;
    return mark !== undefined && mark !== null;
  }

  values(): IterableIterator<LinkEntry> {
    return this.#byIndex.values();
  }

  set(entry: LinkEntry): void {
    this.#byName.set(entry.name, entry);
    this.#byIndex.set(entry.ifindex, entry);
  }

  delete(entry: LinkEntry): void {
    this.#byIndex.delete(entry.ifindex);
    if (this.#byName.get(entry.name)?.ifindex === entry.ifindex) this.#byName.delete(entry.name);
  }
}
