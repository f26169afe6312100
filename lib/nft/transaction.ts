import { formatElement, formatTable, formatTableName, type NftElement, type NftTable } from './table.js';

/** So many are a script of a megabyte, which takes libnftables 0.3 s. */
const scriptMaxElements = 40_000;

/** Elements of one statement: long enough to be quick, short enough that an error's statement says something. */
const statementMaxElements = 200;

type TableName = Pick<NftTable, 'family' | 'name'>;

function* elementStatements(table: TableName, elements: readonly NftElement[]): Iterable<string> {
  const bySet = new Map<string, string[]>();
  for (const element of elements) {
    const text = formatElement(element);
    const texts = bySet.get(element.set);
    if (texts === undefined) bySet.set(element.set, [text]);
    else texts.push(text);
  }
  for (const [set, texts] of bySet) {
    for (let at = 0; at < texts.length; at += statementMaxElements) {
      const some = texts.slice(at, at + statementMaxElements).join(', ');
      yield `add element ${formatTableName(table)} ${set} { ${some} }`;
    }
  }
}

/** A transaction, and the elements that are left to be added by `changeElements`. */
export interface TableReplacement {
  readonly script: string;
  readonly rest: readonly NftElement[];
}

/**
 * The transaction that puts a table in the place of whatever has its name, with these elements, or with the first
 * 40 000 of them where there are more.
 *
 * Equivalent to: `nft delete table …; nft -f …`
 */
export function replaceTable(table: NftTable, elements: readonly NftElement[]): TableReplacement {
  const name = formatTableName(table);
  const lines = [
    // Adding first makes deleting one that is not there no error.
    `add table ${name}`,
    `delete table ${name}`,
    ...formatTable(table).split('\n'),
    ...elementStatements(table, elements.slice(0, scriptMaxElements)),
  ];
  return { script: `${lines.join('\n')}\n`, rest: elements.slice(scriptMaxElements) };
}

/** The transaction that removes a table, also when there is none. */
export function removeTable(table: TableName): string {
  return `add table ${formatTableName(table)}\ndelete table ${formatTableName(table)}\n`;
}
