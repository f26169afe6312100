import { isAddrText, isLinkLocal, isLoopback, isMulticast, isUnspecified, parseAddr } from '../addr.js';
import { TsnetError } from '../errors.js';
import type { MacvlanLink } from '../kernel.js';
import type { DriverName } from '../model.js';

/** One `--opt NAME=VALUE` of a driver. */
interface DriverOption {
  /** Allowed values, in words or as a pattern. */
  readonly values: readonly string[] | RegExp;
  readonly valueText: string;
  readonly required: boolean;
  readonly meaning: string;
}

/** Source: net/core/dev.c, dev_valid_name. */
const linkName = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

/** Addresses with commas between them; an odd one among them is passed over when names are forwarded. */
const addressList = /^[0-9a-fA-F.:]{2,45}(#\d{1,5})?(,[0-9a-fA-F.:]{2,45}(#\d{1,5})?){0,2}$/;

/** What a network of any driver can be told about names. */
const named: Readonly<Record<string, DriverOption>> = {
  dns: {
    values: addressList,
    valueText: 'up to three addresses, with commas',
    required: false,
    meaning: "the name servers that the network's sandboxes have other names looked up by, instead of the host's own",
  },
};

/** What a network behind a bridge of ours can be told about its way out. */
const bridged: Readonly<Record<string, DriverOption>> = {
  ...named,
  masquerade: {
    values: ['true', 'false'],
    valueText: '`true` (default) or `false`',
    required: false,
    meaning: 'whether what leaves all tsnet networks leaves from an address of the host',
  },
  'masquerade-source': {
    values: /^[0-9a-fA-F.:]{2,45}(,[0-9a-fA-F.:]{2,45})?$/,
    valueText: 'an IPv4 address, an IPv6 address, or both with a comma',
    required: false,
    meaning: 'the address of the host that it leaves from, on hosts that have it; else the one that the route has',
  },
  antispoof: {
    values: ['true', 'false'],
    valueText: '`true` (default) or `false`',
    required: false,
    meaning: 'whether endpoints send from their own MAC and addresses only',
  },
};

/** The options of each driver, from which the list in docs/drivers.md is made. */
export const driverOptions: Readonly<Record<DriverName, Readonly<Record<string, DriverOption>>>> = {
  overlay: bridged,
  bridge: bridged,
  macvlan: {
    ...named,
    parent: {
      values: linkName,
      valueText: 'an interface name',
      required: true,
      meaning: 'the interface, of that name on every host, that the macvlan links are made on',
    },
    mode: {
      values: ['bridge', 'private', 'vepa'],
      valueText: '`bridge` (default), `private` or `vepa`',
      required: false,
      meaning: 'how links on one parent reach each other: directly, not at all, or by way of the switch',
    },
    'host-shim': {
      values: ['true', 'false'],
      valueText: '`true` or `false` (default)',
      required: false,
      meaning: "a link of the host's own beside the endpoints, so that it reaches them; needs mode `bridge`",
    },
  },
};

function invalid(message: string, option: string, value: string): TsnetError {
  return new TsnetError('ERR_INVALID_OPTION', message, {
    details: { field: `options.${option}`, value: value.slice(0, 64) },
  });
}

/**
 * Checks a network's options against its driver.
 *
 * Errors: ERR_INVALID_OPTION for an unknown option, a value that is not allowed, a required one that
 * is missing, and a host shim in a mode in which it would reach nobody.
 */
export function checkDriverOptions(driver: DriverName, options: Readonly<Record<string, string>>): void {
  const known = driverOptions[driver];
  for (const [name, value] of Object.entries(options)) {
    const option = Object.hasOwn(known, name) ? known[name] : undefined;
    if (option === undefined)
      throw invalid(
        `options.${name.slice(0, 64)}: driver ${driver} has ${Object.keys(known).join(', ')}, not this`,
        name.slice(0, 64),
        value,
      );
    const allowed = Array.isArray(option.values)
      ? option.values.includes(value)
      : (option.values as RegExp).test(value);
    if (!allowed) {
      throw invalid(`options.${name}: ${JSON.stringify(value.slice(0, 64))} is not ${option.valueText}`, name, value);
    }
  }
  for (const [name, option] of Object.entries(known)) {
    if (option.required && options[name] === undefined) {
      throw invalid(`options.${name}: driver ${driver} needs it (${option.meaning})`, name, '');
    }
  }
  checkMasqueradeSource(options);
  if (options['host-shim'] === 'true' && macvlanMode(options) !== 'bridge') {
    throw invalid(`options.host-shim: reaches nobody in mode ${macvlanMode(options)}`, 'host-shim', 'true');
  }
}

function checkMasqueradeSource(options: Readonly<Record<string, string>>): void {
  const value = options['masquerade-source'];
  if (value === undefined) return;
  const fail = (reason: string): TsnetError =>
    invalid(`options.masquerade-source: ${JSON.stringify(value.slice(0, 64))} ${reason}`, 'masquerade-source', value);
  if (options['masquerade'] === 'false') throw fail('means nothing with masquerade=false');
  const texts = masqueradeSources(options);
  if (!texts.every(isAddrText)) throw fail('is no address');
  const addresses = texts.map((text) => parseAddr(text));
  if (new Set(addresses.map(({ family }) => family)).size < addresses.length) throw fail('has two of one family');
  if (addresses.some((addr) => isMulticast(addr) || isLoopback(addr) || isLinkLocal(addr) || isUnspecified(addr)))
    throw fail('is no address that replies could come back to');
}

/** The addresses that a network's packets leave from, one of a family; empty: those that the routes have. */
export function masqueradeSources(options: Readonly<Record<string, string>>): string[] {
  return options['masquerade-source']?.split(',') ?? [];
}

/** The macvlan mode of a network's checked options. */
export function macvlanMode(options: Readonly<Record<string, string>>): MacvlanLink['mode'] {
  const mode = options['mode'];
  return mode === 'private' || mode === 'vepa' ? mode : 'bridge';
}

/** The macvlan parent of a network's options; empty where a record lacks it, which no kernel takes for a link. */
export function macvlanParent(options: Readonly<Record<string, string>>): string {
  return options['parent'] ?? '';
}

/** Prints the options in Markdown, as docs/drivers.md has them. */
export function formatDriverOptions(): string {
  const rows = ['| driver | option | value | meaning |', '| --- | --- | --- | --- |'];
  for (const [driver, options] of Object.entries(driverOptions)) {
    for (const [name, option] of Object.entries(options)) {
      const need = option.required ? ' (required)' : '';
      rows.push(`| ${driver} | \`${name}\`${need} | ${option.valueText} | ${option.meaning} |`);
    }
  }
  return `${rows.join('\n')}\n`;
}
