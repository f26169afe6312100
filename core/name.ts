import { TsnetError } from './errors.js';
import type { ErrorCode } from './errors.js';
import type { Labels } from './model.js';

/** The rules for every name a person or a runtime gives. Each check names the field and the value it refuses. */

/** Upper bounds that the schemas use as well. */
export const nameLimits = {
  network: 63,
  dnsLabel: 63,
  dnsName: 253,
  callerId: 256,
  ifnameBytes: 15,
  labels: 64,
  labelKey: 128,
  labelValue: 1024,
  aliases: 32,
} as const;

const PLAIN = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const LABEL_KEY = /^[a-zA-Z0-9]([a-zA-Z0-9_./-]*[a-zA-Z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
const ID_LIKE = /^[0-9a-f]{8}$/i;
const CONTROL = /\p{Cc}/u;
/** Half of a pair of surrogates, without the other. */
const LONE_SURROGATE = /\p{Cs}/u;

/** `host` and `none` mean "no network of ours" to every runtime that takes a network's name. */
const RESERVED_NETWORK_NAMES: ReadonlySet<string> = new Set(['host', 'none']);

interface Refusal {
  readonly field: string;
  readonly value: string;
  readonly hint?: string;
}

function refuse(code: ErrorCode, why: string, { field, value, hint }: Refusal): TsnetError {
  const short = value.length > 64 ? `${value.slice(0, 61)}...` : value;
  return new TsnetError(code, `${field}: ${JSON.stringify(short)} ${why}`, {
    details: { field, value: short },
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Reports whether a text can be a network's name or id at all. */
export function isNetworkRef(text: string): boolean {
  return text.length <= nameLimits.network && PLAIN.test(text);
}

/**
 * Reads a network's name. Eight hexadecimal digits are refused, so that a reference is either a name
 * or an id, never both.
 *
 * Errors: ERR_INVALID_NAME.
 */
export function parseNetworkName(text: string, field = 'name'): string {
  const refusal = { field, value: text };
  if (!isNetworkRef(text)) throw refuse('ERR_INVALID_NAME', 'is no network name', refusal);
  if (ID_LIKE.test(text)) {
    throw refuse('ERR_INVALID_NAME', 'looks like a network id', {
      ...refusal,
      hint: 'Choose a name that is not eight hexadecimal digits.',
    });
  }
  if (RESERVED_NETWORK_NAMES.has(text.toLowerCase())) {
    throw refuse('ERR_INVALID_NAME', 'is reserved: runtimes take it for no network at all', {
      ...refusal,
      hint: 'Choose another name.',
    });
  }
  return text;
}

/** Reads a name of dot-separated RFC 1123 labels and writes it in lower case. */
function parseDnsName(text: string, what: string, field: string): string {
  const name = text.toLowerCase();
  const isValid =
    name.length <= nameLimits.dnsName &&
    name.split('.').every((label) => label.length <= nameLimits.dnsLabel && DNS_LABEL.test(label));
  if (isValid) return name;
  throw refuse('ERR_INVALID_NAME', `is no ${what}`, {
    field,
    value: text,
    hint: 'Use labels of letters, digits and "-", 63 characters each, separated by "."; begin and end each with a letter or digit.',
  });
}

/**
 * Reads a host's name (RFC 1123) and writes it in lower case.
 *
 * Errors: ERR_INVALID_NAME.
 */
export function parseHostName(text: string, field = 'host'): string {
  return parseDnsName(text, 'host name', field);
}

/**
 * Reads an endpoint's name or alias and writes it in lower case, as DNS compares it. A name of digits
 * and dots alone is refused: it could be taken for an address.
 *
 * Errors: ERR_INVALID_NAME.
 */
export function parseEndpointName(text: string, field = 'name'): string {
  const name = parseDnsName(text, 'endpoint name', field);
  if (!/^[0-9.]+$/.test(name) || !name.includes('.')) return name;
  throw refuse('ERR_INVALID_NAME', 'could be taken for an address', {
    field,
    value: text,
    hint: 'Use a letter in the name.',
  });
}

/** Reads aliases: each an endpoint name, each once, in the order given. Errors: ERR_INVALID_NAME. */
export function parseAliases(texts: readonly string[], field = 'aliases'): readonly string[] {
  if (texts.length > nameLimits.aliases) {
    throw refuse('ERR_INVALID_NAME', `are more than ${nameLimits.aliases} aliases`, {
      field,
      value: String(texts.length),
      hint: `Give ${nameLimits.aliases} aliases at most.`,
    });
  }
  return [...new Set(texts.map((text, index) => parseEndpointName(text, `${field}[${index}]`)))];
}

/**
 * Reads a caller's id for an attachment, as CNI shapes a container id.
 *
 * Source: CNI spec 1.1.0 "Parameters", CNI_CONTAINERID.
 * Errors: ERR_INVALID_NAME.
 */
export function parseCallerId(text: string, field = 'id'): string {
  if (text.length <= nameLimits.callerId && PLAIN.test(text)) return text;
  throw refuse('ERR_INVALID_NAME', "is no caller's id", {
    field,
    value: text,
    hint: `Use letters, digits, "-", "_" and ".", beginning with a letter or digit, ${nameLimits.callerId} characters at most.`,
  });
}

/** Bytes of a text in UTF-8; a surrogate without its other half counts as the three bytes of U+FFFD. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/**
 * Reads the name of a network interface.
 *
 * Source: dev_valid_name() in net/core/dev.c, and inetdev_valid_name() in net/ipv4/devinet.c for `all` and `default`, which are
 * no links below /proc/sys/net/ipv4/conf; also without "%" and control characters, which the
 * kernel or its tools would take for a pattern or garble.
 * Errors: ERR_INVALID_IFNAME.
 */
export function parseIfname(text: string, field = 'ifname'): string {
  const bytes = utf8Length(text);
  const isValid =
    bytes >= 1 &&
    bytes <= nameLimits.ifnameBytes &&
    !['.', '..', 'all', 'default'].includes(text) &&
    !/[\s/:%]/.test(text) &&
    !CONTROL.test(text);
  if (isValid) return text;
  throw refuse('ERR_INVALID_IFNAME', 'is no interface name', { field, value: text });
}

function checkLabelKey(key: string, field: string): void {
  if (key.length <= nameLimits.labelKey && LABEL_KEY.test(key)) return;
  throw refuse('ERR_INVALID_NAME', 'is no label key', {
    field,
    value: key,
    hint: `Use letters, digits, "-", "_", "." and "/" for a label's key, ${nameLimits.labelKey} characters at most.`,
  });
}

function checkLabelValue(key: string, value: string, field: string): void {
  if (value.length <= nameLimits.labelValue && !CONTROL.test(value) && !LONE_SURROGATE.test(value)) return;
  throw refuse('ERR_INVALID_NAME', 'is no label value', {
    field: `${field}.${key}`,
    value,
    hint: `Use ${nameLimits.labelValue} characters at most for a label's value, no control characters and no halves of characters.`,
  });
}

/** Checks labels: keys, values and their number. Errors: ERR_INVALID_NAME. */
export function checkLabels(labels: Labels, field = 'labels'): void {
  const entries = Object.entries(labels);
  if (entries.length > nameLimits.labels) {
    throw refuse('ERR_INVALID_NAME', `are more than ${nameLimits.labels} labels`, {
      field,
      value: String(entries.length),
      hint: `Give ${nameLimits.labels} labels at most.`,
    });
  }
  for (const [key, value] of entries) {
    checkLabelKey(key, field);
    checkLabelValue(key, value, field);
  }
}

/**
 * Applies a change of labels: a null value removes, others set. The result is checked as a whole.
 *
 * Errors: ERR_INVALID_NAME.
 */
export function applyLabels(labels: Labels, change: Readonly<Record<string, string | null>>): Labels {
  const merged = new Map(Object.entries(labels));
  for (const [key, value] of Object.entries(change)) {
    if (value === null) merged.delete(key);
    else merged.set(key, value);
  }
  const result = Object.fromEntries(merged);
  checkLabels(result);
  return result;
}
