/** Signals that a terminal sends to every process of its foreground group. */
const terminalSignals = ['SIGINT', 'SIGQUIT', 'SIGWINCH'] as const;
/** Signals that somebody sent to us and meant for the command. */
const sentSignals = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;

export interface SignalRelay {
  /** Calls this for each signal that the command does not get by itself. */
  forward: (name: NodeJS.Signals) => void;
  stop(): void;
}

/**
 * Takes over the signals for the time a command runs, so that none ends us before the command is
 * detached. Those of the terminal are forwarded only where the terminal does not deliver them itself.
 */
export function relaySignals(isForeground: () => boolean): SignalRelay {
  const relay: SignalRelay = {
    forward: () => undefined,
    stop: () => listeners.forEach(([name, listener]) => process.off(name, listener)),
  };
  const listeners = [...terminalSignals, ...sentSignals].map((name) => {
    const isTerminals = (terminalSignals as readonly string[]).includes(name);
    const listener = (): void => {
      if (!isTerminals || !isForeground()) relay.forward(name);
    };
    process.on(name, listener);
    return [name, listener] as const;
  });
  return relay;
}
