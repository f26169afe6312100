import { isNode, LineCounter, parseAllDocuments, type Document } from 'yaml';
import type { PolicyBody } from '../core/api/policy.js';
import { TsnetError } from '../core/errors.js';
import { formatPath, parsePolicy, PolicyFault, type FieldPath } from '../core/policy/parse.js';

const maxFileBytes = 1024 * 1024;

function invalid(file: string, line: number, message: string): TsnetError {
  return new TsnetError('ERR_INVALID_POLICY', `${file}:${line}: ${message}`, { details: { file, line } });
}

/** The line of a field, or of the nearest thing around it that is there. */
function lineOf(document: Document, path: FieldPath, counter: LineCounter): number {
  for (let length = path.length; length >= 0; length--) {
    const at = path.slice(0, length);
    const parent = length === 0 ? undefined : document.getIn(at.slice(0, -1), true);
    const items = (parent as { readonly items?: readonly { readonly key?: unknown }[] } | undefined)?.items ?? [];
    const key = items.find((item) => (item.key as { readonly value?: unknown } | undefined)?.value === at.at(-1))?.key;
    const node = key ?? document.getIn(at, true);
    if (isNode(node) && node.range) return counter.linePos(node.range[0]).line;
  }
  return 1;
}

/**
 * Reads a file of policies: YAML documents (JSON is YAML too), each one policy or a list of them.
 * Errors: ERR_INVALID_POLICY with line and field; then no policy of the file counts.
 */
export function readPolicyFile(text: string, file: string): PolicyBody[] {
  if (Buffer.byteLength(text) > maxFileBytes) throw invalid(file, 1, 'is larger than 1 MiB');
  const counter = new LineCounter();
  const documents = [...parseAllDocuments(text, { lineCounter: counter, uniqueKeys: true })] as Document[];
  const policies: PolicyBody[] = [];
  for (const document of documents) {
    const [error] = document.errors;
    if (error !== undefined)
      throw invalid(file, error.linePos?.[0].line ?? 1, error.message.split('\n', 1)[0] ?? 'is no YAML');
    const value = toPlain(document, file);
    if (value === null) continue;
    const isList = Array.isArray(value);
    (isList ? (value as unknown[]) : [value]).forEach((each, at) => {
      const before: FieldPath = isList ? [at] : [];
      try {
        const policy = parsePolicy(each);
        if (policies.some(({ name }) => name === policy.name))
          throw new PolicyFault(['name'], `"${policy.name}" is there twice in this file`);
        policies.push(policy);
      } catch (fault) {
        if (!(fault instanceof PolicyFault)) throw fault;
        const field = formatPath(fault.path);
        const line = lineOf(document, [...before, ...fault.path], counter);
        throw invalid(file, line, `${field === '' ? 'policy' : field}: ${fault.message}`);
      }
    });
  }
  if (policies.length === 0) throw invalid(file, 1, 'holds no policy');
  return policies;
}

function toPlain(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw invalid(file, 1, (error as Error).message);
  }
}
