import type { CommandSpec } from '../command.js';

export const completionCommand: CommandSpec = {
  name: 'completion',
  summary: 'print the completion script for a shell',
  args: [{ name: 'SHELL', summary: 'bash, zsh or fish', means: 'shell', choices: ['bash', 'zsh', 'fish'] }],
  examples: [
    { does: 'For this bash', line: 'source <(tsnet completion bash)' },
    { does: 'For every zsh', line: 'tsnet completion zsh > /usr/local/share/zsh/site-functions/_tsnet' },
    { does: 'For every fish', line: 'tsnet completion fish > /usr/share/fish/vendor_completions.d/tsnet.fish' },
  ],
  common: 'none',
  wholeTree: true,
  act: async ({ args: [shell], cli, program }) => {
    const { completionNodes } = await import('../completion/model.js');
    const nodes = completionNodes(program);
    if (shell === 'zsh') cli.stdout.write((await import('../completion/zsh.js')).formatZsh(nodes));
    else if (shell === 'fish') cli.stdout.write((await import('../completion/fish.js')).formatFish(nodes));
    else cli.stdout.write((await import('../completion/bash.js')).formatBash(nodes));
  },
};
