import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { TsnetError } from '../../core/errors.js';
import type { CliContext } from '../context.js';

/** A process that waits in a network namespace of its own until it is let go, and then becomes the command. */
export interface Sandbox {
  readonly pid: number;
  /** Resolves with the exit code as a shell would see it. */
  readonly exited: Promise<number>;
  /** Lets it become the command, with this for its resolv.conf; empty: the host's. */
  go(resolvConf: string): void;
  /** Ends it before the command; nothing of the command has run. */
  cancel(): void;
  signal(name: NodeJS.Signals): void;
}

/**
 * Starts tsnet-run with our own stdin, stdout and stderr; resolves when its namespace is there.
 *
 * Errors: ERR_COMMAND_NOT_FOUND; ERR_NATIVE_MISSING when the helper is not built; ERR_KERNEL when it made no namespace.
 */
export async function openSandbox(cli: CliContext, command: readonly string[]): Promise<Sandbox> {
  checkCommand(cli, command[0] ?? '');
  const program = join(cli.libexecDir, 'tsnet-run');
  const child = spawn(program, ['3', '4', '--', ...command], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'],
  });
  const ready = child.stdio[3] as Readable;
  const go = child.stdio[4] as Writable;
  // A helper that is gone breaks the pipe; its exit says why.
  go.on('error', () => undefined);
  const exited = exitOf(child, program);
  exited.catch(() => undefined);
  const isReady = await Promise.race([
    new Promise<boolean>((done) => {
      ready.once('data', () => done(true));
      ready.once('close', () => done(false));
    }),
    exited.then(() => false),
  ]);
  ready.destroy();
  if (!isReady || child.pid === undefined) {
    const code = await exited;
    throw new TsnetError('ERR_KERNEL', `${program} could not make a network namespace (exit code ${code})`, {
      hint: 'See its message above; it needs root with CAP_SYS_ADMIN.',
    });
  }
  return {
    pid: child.pid,
    exited,
    go: (resolvConf) => go.end(`g${resolvConf}`),
    cancel: () => go.destroy(),
    signal: (name) => child.kill(name),
  };
}

function exitOf(child: ChildProcess, program: string): Promise<number> {
  return new Promise((done, failed) => {
    child.once('error', (cause) => {
      failed(new TsnetError('ERR_NATIVE_MISSING', `${program} cannot be started: ${cause.message}`, { cause }));
    });
    child.once('exit', (code, signal) => {
      done(signal === null ? (code ?? 0) : 128 + osConstants.signals[signal]);
    });
  });
}

/** Says that a command is missing before anything is attached for it. */
function checkCommand(cli: CliContext, command: string): void {
  const folders = command.includes('/') ? [''] : (cli.env['PATH'] ?? '').split(delimiter);
  const isThere = folders.some((folder) => {
    try {
      const path = resolve(cli.cwd, folder, command);
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
  if (!isThere) throw new TsnetError('ERR_COMMAND_NOT_FOUND', `command "${command}" is not there or not executable`);
}

/** When a process started, in clock ticks since boot: with its pid it names the process for good (proc(5), stat field 22). */
export function startTimeOf(pid: number): string {
  return statFields(`/proc/${pid}/stat`)[19] ?? '0';
}

/**
 * Whether the terminal sends its signals to our process group, and so to the command without us
 * (proc(5): pgrp is field 5, tty_nr 7, tpgid 8).
 */
export function isForeground(statPath = '/proc/self/stat'): boolean {
  const [, , group, , terminal, foreground] = statFields(statPath);
  return group !== undefined && terminal !== '0' && group === foreground;
}

/** The fields of a stat file from the third on; the second may hold anything, parentheses and spaces as well. */
function statFields(path: string): readonly string[] {
  try {
    const text = readFileSync(path, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}
