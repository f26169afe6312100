import type { CliContext } from '../context.js';
import { formatRecord, formatTable, type Column } from './table.js';

export const formats = ['table', 'wide', 'json', 'yaml'] as const;
export type Format = (typeof formats)[number];

/** How one kind of record is shown: the order of its fields, its columns, and what names it. */
export interface View<Row> {
  readonly fields: readonly (keyof Row & string)[];
  readonly columns: readonly Column<Row>[];
  readonly name: (row: Row) => string;
}

/** Prints values as JSON or YAML; reports false where the format is one for tables. */
export async function printValue(cli: CliContext, format: Format, value: unknown): Promise<boolean> {
  if (format === 'json') {
    cli.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
    return true;
  }
  if (format !== 'yaml') return false;
  const { stringify } = await import('yaml');
  // Aliases would save characters where two fields share a value, and surprise every reader.
  cli.stdout.write(stringify(value, { aliasDuplicateObjects: false }));
  return true;
}

/** Prints a list: an array, or a table with a header. */
export async function printList<Row extends object>(
  cli: CliContext,
  format: Format,
  listing: Listing<Row>,
): Promise<void> {
  const { view, rows } = listing;
  if (listing.quiet === true) {
    cli.stdout.write(rows.map((row) => `${view.name(row)}\n`).join(''));
    return;
  }
  if (
    await printValue(
      cli,
      format,
      rows.map((row) => ordered(row, view)),
    )
  )
    return;
  cli.stdout.write(formatTable(rows, view.columns, format === 'wide'));
}

export interface Listing<Row> {
  readonly view: View<Row>;
  readonly rows: readonly Row[];
  /** Names only, one a line, whatever the format. */
  readonly quiet?: boolean;
}

/** Prints one record: an object, or a table of one row. */
export async function printOne<Row extends object>(
  cli: CliContext,
  format: Format,
  shown: { view: View<Row>; row: Row },
): Promise<void> {
  if (await printValue(cli, format, ordered(shown.row, shown.view))) return;
  cli.stdout.write(formatTable([shown.row], shown.view.columns, format === 'wide'));
}

/** Prints records in full: an array, or one block of lines each. */
export async function printRecords<Row extends object>(
  cli: CliContext,
  format: Format,
  listing: Listing<Row>,
): Promise<void> {
  const { view, rows } = listing;
  if (
    await printValue(
      cli,
      format,
      rows.map((row) => ordered(row, view)),
    )
  )
    return;
  cli.stdout.write(rows.map((row) => formatRecord(row, view.columns)).join('\n'));
}

/** A record in full, whatever its kind: its value, and its lines. */
export interface Shown {
  readonly value: object;
  readonly text: string;
}

export function shownRecord<Row extends object>(view: View<Row>, row: Row): Shown {
  return { value: ordered(row, view), text: formatRecord(row, view.columns) };
}

/** Prints records of several kinds in full: an array, or one block of lines each. */
export async function printShown(cli: CliContext, format: Format, records: readonly Shown[]): Promise<void> {
  const values = records.map(({ value }) => value);
  if (!(await printValue(cli, format, values))) cli.stdout.write(records.map(({ text }) => text).join('\n'));
}

/** The record with its fields in the documented order; fields this version does not know come last. */
function ordered<Row extends object>(row: Row, view: View<Row>): Partial<Row> {
  const first = view.fields.filter((field) => field in row).map((field) => [field, row[field]] as const);
  return { ...Object.fromEntries(first), ...row } as Partial<Row>;
}
