import { formatElement, formatTable, formatTableName, type NftElement, type NftTable } from './table.js';

/** More elements in one transaction can exceed the socket's buffer. */
export const batchMaxElements = 4000;

/** Elements of one statement: long enough to be quick, short enough that an error's statement says something. */
const statementMaxElements = 200;

type TableName = Pick<NftTable, 'family' | 'name'>;

function* elementStatements(
  verb: 'add' | 'delete',
  table: TableName,
  elements: readonly NftElement[],
): Iterable<string> {
  const bySet = new Map<string, string[]>();
  for (const element of elements) {
    const text = formatElement(verb === 'add' ? element : { set: element.set, key: element.key });
    const texts = bySet.get(element.set);
    if (texts === undefined) bySet.set(element.set, [text]);
    else texts.push(text);
  }
  for (const [set, texts] of bySet) {
    for (let at = 0; at < texts.length; at += statementMaxElements) {
      const some = texts.slice(at, at + statementMaxElements).join(', ');
      yield `${verb} element ${formatTableName(table)} ${set} { ${some} }`;
    }
  }
}

function scripts(
  table: TableName,
  head: readonly string[],
  changes: readonly (readonly ['add' | 'delete', NftElement])[],
): string[] {
  const made: string[] = [];
  for (let at = 0; at === 0 || at < changes.length; at += batchMaxElements) {
    const some = changes.slice(at, at + batchMaxElements);
    const of = (verb: 'add' | 'delete'): NftElement[] =>
      some.filter(([each]) => each === verb).map(([, element]) => element);
    const lines = [
      ...(at === 0 ? head : []),
      ...elementStatements('delete', table, of('delete')),
      ...elementStatements('add', table, of('add')),
    ];
    if (lines.length > 0) made.push(`${lines.join('\n')}\n`);
  }
  return made;
}

/**
 * The transactions that put a table with these elements in the place of whatever has its name: one, unless there are
 * more than 4000 elements, of which the first transaction then brings 4000.
 *
 * Equivalent to: `nft delete table …; nft -f …`
 */
export function replaceTable(table: NftTable, elements: readonly NftElement[]): string[] {
  const name = formatTableName(table);
  // Adding first makes deleting one that is not there no error.
  const head = [`add table ${name}`, `delete table ${name}`, ...formatTable(table).split('\n')];
  return scripts(
    table,
    head,
    elements.map((element) => ['add', element] as const),
  );
}

/** The transactions that remove and add elements; removals go first within each. */
export function changeElements(
  table: TableName,
  removed: readonly NftElement[],
  added: readonly NftElement[],
): string[] {
  const total = removed.length + added.length;
  const changes = [...removed.map((each) => ['delete', each] as const), ...added.map((each) => ['add', each] as const)];
  return total === 0 ? [] : scripts(table, [], changes);
}

/** The transaction that removes a table, also when there is none. */
export function removeTable(table: TableName): string {
  return `add table ${formatTableName(table)}\ndelete table ${formatTableName(table)}\n`;
}
