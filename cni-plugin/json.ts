import { cniCode, CniError } from './error.js';

/**
 * Reading of other people's JSON. Keys are found without regard to case: several runtimes write Go's field names,
 * which the reference library accepts.
 */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Reports whether a value is an object that is no array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value of a key, however it is spelt; the last one where several are there. Null counts as absent. */
export function fieldOf(object: JsonObject, name: string): unknown {
  let found = Object.hasOwn(object, name) ? object[name] : undefined;
  const wanted = name.toLowerCase();
  for (const key of Object.keys(object)) {
    if (key.length === name.length && key.toLowerCase() === wanted) found = object[key];
  }
  return found ?? undefined;
}

function mismatch(what: string, wanted: string, value: unknown): CniError {
  const shown = JSON.stringify(value) ?? 'undefined';
  const short = shown.length > 100 ? `${shown.slice(0, 100)}…` : shown;
  return new CniError(cniCode.invalidConfig, `${what}: ${short} is not ${wanted}`);
}

/** A text; undefined where it is absent. Errors: 7. */
export function textOf(object: JsonObject, name: string, what = name): string | undefined {
  const value = fieldOf(object, name);
  if (value === undefined || typeof value === 'string') return value;
  throw mismatch(what, 'a string', value);
}

/** A text that says something; undefined where it is absent or empty. Errors: 7. */
export function filledOf(object: JsonObject, name: string, what = name): string | undefined {
  const value = textOf(object, name, what);
  return value === '' ? undefined : value;
}

/** A whole number from 0; undefined where it is absent. Errors: 7. */
export function countOf(object: JsonObject, name: string, what = name): number | undefined {
  const value = fieldOf(object, name);
  if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0)) return value;
  throw mismatch(what, 'a whole number', value);
}

/** A boolean; undefined where it is absent. Errors: 7. */
export function booleanOf(object: JsonObject, name: string, what = name): boolean | undefined {
  const value = fieldOf(object, name);
  if (value === undefined || typeof value === 'boolean') return value;
  throw mismatch(what, 'true or false', value);
}

/** An object; undefined where it is absent. Errors: 7. */
export function objectOf(object: JsonObject, name: string, what = name): JsonObject | undefined {
  const value = fieldOf(object, name);
  if (value === undefined || isObject(value)) return value;
  throw mismatch(what, 'an object', value);
}

/** A list; undefined where it is absent. Errors: 7. */
export function listOf(object: JsonObject, name: string, what = name): readonly unknown[] | undefined {
  const value = fieldOf(object, name);
  if (value === undefined || Array.isArray(value)) return value as readonly unknown[] | undefined;
  throw mismatch(what, 'a list', value);
}

/** A list of objects; undefined where it is absent. Errors: 7. */
export function objectsOf(object: JsonObject, name: string, what = name): JsonObject[] | undefined {
  return listOf(object, name, what)?.map((value, index) => asObject(value, `${what}[${index}]`));
}

/** A list of texts; undefined where it is absent. Errors: 7. */
export function textsOf(object: JsonObject, name: string, what = name): string[] | undefined {
  return listOf(object, name, what)?.map((value, index) => {
    if (typeof value === 'string') return value;
    throw mismatch(`${what}[${index}]`, 'a string', value);
  });
}

/** A value that has to be an object. Errors: 7. */
export function asObject(value: unknown, what: string): JsonObject {
  if (isObject(value)) return value;
  throw mismatch(what, 'an object', value);
}
