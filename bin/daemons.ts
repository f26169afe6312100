import type { TreeSpec } from '../cli/command.js';
import { agentCommand } from './agent-command.js';
import { controllerCommand } from './controller-command.js';
import { dnsServerCommand } from './dns-command.js';

/** The commands that run a daemon: the part of the tree that cli/ cannot know. */
export const daemonCommands: readonly TreeSpec[] = [controllerCommand, agentCommand, dnsServerCommand];
