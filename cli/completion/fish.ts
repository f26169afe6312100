import { listings, type CompletionNode, type CompletionOption } from './model.js';

/** The fish script: conditions on where the line is, and what is offered there. */
export function formatFish(nodes: readonly CompletionNode[]): string {
  return `# fish completion of tsnet; load it with: tsnet completion fish | source

# Prints the command that the line is in, as /endpoint/set, and how many arguments it has before the cursor.
function __tsnet_place
  set -l place ''
  set -l count 0
  set -l takes no
  set -l before (commandline -opc)
  for word in $before[2..-1]
    if test $takes = yes
      set takes no
      continue
    end
    switch "$place $word"
${nodes.flatMap((node) => valueLines(node)).join('\n')}
      case '* -*'
        continue
    end
    switch "$place/$word"
${nodes
  .filter((node) => node.path !== '')
  .map((node) => `      case ${quoted(placeOf(node))}\n        set place ${quoted(placeOf(node))}`)
  .join('\n')}
      case '*'
        set count (math $count + 1)
    end
  end
  echo "$place"
  echo $count
end

# Reports whether the line is in a command, and at which of its arguments: a number, or a number and later ones (2+).
function __tsnet_at
  set -l now (__tsnet_place)
  test "$now[1]" = "$argv[1]"; or return 1
  set -q argv[2]; or return 0
  switch $argv[2]
    case '*+'
      test $now[2] -ge (string trim -r -c + $argv[2])
    case '*'
      test $now[2] -eq $argv[2]
  end
end

complete -c tsnet -f
${nodes.map((node) => formatNode(node)).join('\n')}
`;
}

/** A command's words, as `__tsnet_place` says them. */
const placeOf = (node: CompletionNode): string => (node.path === '' ? '' : `/${node.path.split(' ').join('/')}`);
const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function valueLines(node: CompletionNode): readonly string[] {
  const flags = node.options.filter(({ takesValue }) => takesValue).flatMap((option) => option.flags);
  if (flags.length === 0) return [];
  const patterns = flags.map((flag) => quoted(`${placeOf(node)} ${flag}`)).join(' ');
  return [`      case ${patterns}\n        set takes yes\n        continue`];
}

function formatNode(node: CompletionNode): string {
  const lines = [
    ...node.words.map(({ word, summary }) => offer(node, '0', `-a ${quoted(word)} -d ${quoted(summary)}`)),
    ...formatArguments(node),
    ...node.options.map((option) => offer(node, '', formatOption(option))),
  ];
  return lines.join('\n');
}

/** What is offered at an argument of a command, or anywhere in it. */
function offer(node: CompletionNode, at: string, what: string): string {
  const condition = `__tsnet_at ${placeOf(node) === '' ? '""' : placeOf(node)} ${at}`.trimEnd();
  return `complete -c tsnet -n ${quoted(condition)} ${what}`;
}

function formatArguments(node: CompletionNode): readonly string[] {
  if (node.words.length > 0) return [];
  return node.args.map((means, index) => {
    const isLast = index === node.args.length - 1;
    const at = node.isVariadic && isLast ? `${index}+` : String(index);
    const from = listings[means];
    return offer(node, at, from === null ? '-F' : `-a ${quoted(`(${from} 2>/dev/null)`)}`);
  });
}

function formatOption(option: CompletionOption): string {
  const names = option.flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  return [...names, ...valueOf(option), `-d ${quoted(option.summary)}`].join(' ');
}

function valueOf(option: CompletionOption): readonly string[] {
  if (!option.takesValue) return [];
  if (option.isFile) return ['-r', '-F'];
  if (option.choices.length > 0) return ['-x', `-a ${quoted(option.choices.join(' '))}`];
  const from = option.means === null ? null : listings[option.means];
  return from === null ? ['-x'] : ['-x', `-a ${quoted(`(${from} 2>/dev/null)`)}`];
}
