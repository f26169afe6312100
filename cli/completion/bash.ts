import { listings, type CompletionNode, type CompletionOption } from './model.js';

/** The bash script; needs nothing of the bash-completion package. */
export function formatBash(nodes: readonly CompletionNode[]): string {
  return `# bash completion of tsnet; load it with: source <(tsnet completion bash)

_tsnet_match() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$1" -- "$2"))
}

_tsnet_path() {
  # Sets path to the words of the command, count to the arguments before the cursor, value to the option that waits for its value.
  local index word
  path='' count=0 value=''
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    if [[ -n $value ]]; then value=''; continue; fi
    case "$path $word" in
${nodes.flatMap((node) => valueLines(node)).join('\n')}
      *' -'*) continue ;;
    esac
    case "$path/$word" in
${nodes
  .filter((node) => node.path !== '')
  .map((node) => `      ${quoted(`${parentOf(node.path)}/${lastOf(node.path)}`)}) path=${quoted(node.path)} ;;`)
  .join('\n')}
      *) count=$((count + 1)) ;;
    esac
  done
}

_tsnet() {
  local path count value current=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  _tsnet_path
  if [[ -n $value ]]; then
    case "$path $value" in
${nodes.flatMap((node) => choiceLines(node)).join('\n')}
    esac
    return
  fi
  if [[ $current == -* ]]; then
    case "$path" in
${nodes.map((node) => `      ${quoted(node.path)}) _tsnet_match ${words(node.options.flatMap((option) => option.flags))} "$current" ;;`).join('\n')}
    esac
    return
  fi
  case "$path $count" in
${nodes.flatMap((node) => argumentLines(node)).join('\n')}
  esac
}

complete -o default -F _tsnet tsnet
`;
}

const quoted = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;
const words = (texts: readonly string[]): string => `$'${texts.join('\\n')}'`;
const parentOf = (path: string): string => path.split(' ').slice(0, -1).join(' ');
const lastOf = (path: string): string => path.split(' ').at(-1) ?? '';
const patterns = (path: string, option: CompletionOption): string =>
  option.flags.map((flag) => quoted(`${path} ${flag}`)).join(' | ');
const listing = (command: string): string => `_tsnet_match "$(${command} 2>/dev/null)" "$current"`;

function valueLines(node: CompletionNode): readonly string[] {
  const taking = node.options.filter((option) => option.takesValue);
  return taking.map((option) => `      ${patterns(node.path, option)}) value=$word; continue ;;`);
}

function choiceLines(node: CompletionNode): readonly string[] {
  return node.options.flatMap((option) => {
    const from = option.means === null ? null : listings[option.means];
    if (from !== null) return [`      ${patterns(node.path, option)}) ${listing(from)} ;;`];
    if (option.choices.length > 0)
      return [`      ${patterns(node.path, option)}) _tsnet_match ${words(option.choices)} "$current" ;;`];
    return option.isFile ? [`      ${patterns(node.path, option)}) COMPREPLY=($(compgen -f -- "$current")) ;;`] : [];
  });
}

function argumentLines(node: CompletionNode): readonly string[] {
  if (node.words.length > 0)
    return [`    ${quoted(`${node.path} 0`)}) _tsnet_match ${words(node.words.map(({ word }) => word))} "$current" ;;`];
  return node.args.flatMap((means, index) => {
    const from = listings[means];
    if (from === null) return [];
    const isLast = index === node.args.length - 1;
    const pattern = node.isVariadic && isLast ? `${quoted(`${node.path} `)}*` : quoted(`${node.path} ${index}`);
    return [`    ${pattern}) ${listing(from)} ;;`];
  });
}
