import { listings, type CompletionNode, type CompletionOption } from './model.js';

/** The zsh script: a function for each command, made of zsh's own _arguments. */
export function formatZsh(nodes: readonly CompletionNode[]): string {
  return `#compdef tsnet
# zsh completion of tsnet; load it with: source <(tsnet completion zsh)

_tsnet_listing() {
  local -a found
  found=(\${(f)"$(eval "$1" 2>/dev/null)"})
  (( $#found )) && compadd -a found
}

${nodes.map((node) => formatFunction(node)).join('\n')}
if [[ $funcstack[1] == _tsnet ]]; then
  _tsnet "$@"
else
  compdef _tsnet tsnet
fi
`;
}

const functionOf = (path: string): string => ['_tsnet', ...path.split(' ').filter((word) => word !== '')].join('_');
const quoted = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;
/** Inside [...] and between colons of an _arguments spec. */
const escaped = (text: string): string => text.replace(/[[\]:\\]/g, '\\$&');

function formatFunction(node: CompletionNode): string {
  const specs = [...node.options.flatMap((option) => formatOption(option)), ...formatArguments(node)];
  const call = `_arguments -C ${specs.map((spec) => `\\\n    ${quoted(spec)}`).join(' ')}`;
  if (node.words.length === 0 || node.args.length > 0) return `${functionOf(node.path)}() {\n  ${call}\n}\n`;
  const inner = node.words.map(({ word, summary }) => `      ${quoted(`${escaped(word)}:${summary}`)}`).join('\n');
  const cases = node.words
    .map(({ word }) => `        ${word}) ${functionOf(`${node.path} ${word}`.trim())} ;;`)
    .join('\n');
  return `${functionOf(node.path)}() {
  local curcontext=$curcontext state line
  ${call}
  case $state in
    command)
      local -a commands=(
${inner}
      )
      _describe command commands ;;
    rest)
      case $line[1] in
${cases}
      esac ;;
  esac
}
`;
}

function formatOption(option: CompletionOption): readonly string[] {
  const value = option.takesValue ? `:value:${actionOf(option)}` : '';
  return option.flags.map((flag) => `*${flag}[${escaped(option.summary)}]${value}`);
}

function actionOf(option: CompletionOption): string {
  if (option.choices.length > 0) return `(${option.choices.join(' ')})`;
  if (option.isFile) return '_files';
  const from = option.means === null ? null : listings[option.means];
  return from === null ? '' : `{_tsnet_listing "${from}"}`;
}

function formatArguments(node: CompletionNode): readonly string[] {
  if (node.words.length > 0 && node.args.length === 0) return ['1: :->command', '*:: :->rest'];
  if (node.words.length > 0) return [`1:value:(${node.words.map(({ word }) => word).join(' ')})`];
  return node.args.map((means, index) => {
    const from = listings[means];
    const action = from === null ? '_default' : `{_tsnet_listing "${from}"}`;
    const isLast = index === node.args.length - 1;
    return node.isVariadic && isLast ? `*:${means}:${action}` : `${index + 1}:${means}:${action}`;
  });
}
