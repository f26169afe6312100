/** One column of a listing; `wide` columns are shown with `-o wide` only. */
export interface Column<Row> {
  readonly title: string;
  readonly wide?: boolean;
  readonly cell: (row: Row) => string;
}

/**
 * Shows control characters and those that turn the direction of writing as escapes: what other hosts
 * name their things must not drive the reader's terminal.
 */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

const shown = (text: string): string => (text === '' ? '-' : escapeControls(text));

/** Rows under a header, columns two spaces apart, nothing after the last. */
export function formatTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], wide: boolean): string {
  const kept = columns.filter((column) => wide || column.wide !== true);
  const lines = [
    kept.map((column) => column.title),
    ...rows.map((row) => kept.map((column) => shown(column.cell(row)))),
  ];
  return alignLines(lines);
}

/** One record as `TITLE  value` lines. */
export function formatRecord<Row>(row: Row, columns: readonly Column<Row>[]): string {
  return alignLines(columns.map((column) => [column.title, shown(column.cell(row))]));
}

function alignLines(lines: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const line of lines) {
    line.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  }
  const align = (line: readonly string[]): string =>
    line.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join('  ');
  return lines.map((line) => `${align(line).trimEnd()}\n`).join('');
}
