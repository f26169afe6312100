import t from 'tap';
import { stopWithin } from '../../../agent/stop-deadline.js';

t.test('a stop that hangs ends the process with status 1 and says so', async (t) => {
  const logged: unknown[] = [];
  let release = (): void => undefined;
  const hanging = new Promise<void>((resolve) => (release = resolve));
  const code = await new Promise<number>((resolve) => {
    void stopWithin(() => hanging, {
      limitMs: 5,
      log: { error: (...args: unknown[]) => logged.push(args) },
      exit: resolve,
    });
  });
  release();
  t.equal(code, 1);
  t.equal(logged.length, 1);
});

t.test('a stop that ends in time, well or badly, leaves no timer that ends the process', async (t) => {
  const exits: number[] = [];
  const deadline = { limitMs: 60_000, log: { error: () => undefined }, exit: (code: number) => void exits.push(code) };
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  await stopWithin(() => Promise.resolve(), deadline);
  await t.rejects(
    stopWithin(() => Promise.reject(new Error('no')), deadline),
    { message: 'no' },
  );
  t.equal(timers(), before);
  t.same(exits, []);
});
