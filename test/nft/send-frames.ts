import { fileURLToPath } from 'node:url';
import { mustExecIn, type Sandbox } from '../lab/sandbox.js';

const program = fileURLToPath(new URL('./frame-program.js', import.meta.url));

/** Sends frames, in hexadecimal digits, from inside a sandbox, past its own stack. */
export async function sendFrames(sandbox: Sandbox, ifname: string, ...frames: string[]): Promise<void> {
  await mustExecIn(sandbox, process.execPath, program, ifname, ...frames);
}
