import { TsnetError } from '../core/errors.js';
import { parseIfname } from '../core/name.js';
import type { DriverName } from '../core/model.js';

type OptionCheck = (value: string, field: string) => void;
type Options = Readonly<Record<string, string>>;

const oneOf =
  (...allowed: readonly string[]): OptionCheck =>
  (value, field) => {
    if (!allowed.includes(value)) throw invalidOption(field, `"${value}" must be one of ${allowed.join(', ')}`);
  };

const known: Readonly<Record<DriverName, Readonly<Record<string, OptionCheck>>>> = {
  overlay: {},
  bridge: {},
  macvlan: {
    parent: (value, field) => void parseIfname(value, field),
    mode: oneOf('bridge', 'private', 'vepa'),
    'host-shim': oneOf('true', 'false'),
  },
};

const required: Readonly<Record<DriverName, readonly string[]>> = { overlay: [], bridge: [], macvlan: ['parent'] };
const defaults: Readonly<Record<DriverName, Options>> = {
  overlay: {},
  bridge: {},
  macvlan: { mode: 'bridge', 'host-shim': 'false' },
};

/**
 * Checks a network's driver options and fills in defaults.
 * Errors: ERR_INVALID_OPTION, for an unknown one with the known ones; ERR_INVALID_IFNAME.
 */
export function checkDriverOptions(driver: DriverName, options: Options): Options {
  const checks = known[driver];
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (check === undefined) {
      const names = Object.keys(checks);
      const list = names.length === 0 ? 'it has none' : `it knows ${names.join(', ')}`;
      throw invalidOption(`options.${name}`, `driver ${driver} has no such option: ${list}`);
    }
    check(value, `options.${name}`);
  }
  for (const name of required[driver]) {
    if (!Object.hasOwn(options, name)) throw invalidOption(`options.${name}`, `driver ${driver} needs it`);
  }
  return { ...defaults[driver], ...options };
}

function invalidOption(field: string, message: string): TsnetError {
  return new TsnetError('ERR_INVALID_OPTION', `${field}: ${message}`, { details: { field } });
}
