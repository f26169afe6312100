import type { Attached, Attacher, AttacherRequest } from '../core/attacher.js';
import { TsnetError } from '../core/errors.js';
import type { Logger } from '../lib/log.js';
import { KeyedQueue } from '../lib/sync/keyed-queue.js';
import { broken, checkState } from './check.js';
import { parseConfig, parseDocument, type NetConfig } from './config.js';
import type { Delegate } from './delegate.js';
import { checkNames, parseEnvironment, type Command, type Environment } from './environment.js';
import { CniError, cniCode, formatError, toCniError } from './error.js';
import type { CniCall } from './frame.js';
import { fieldOf, filledOf, isObject, listOf, objectOf } from './json.js';
import { attachRequest, configLabels, reserveRequest } from './request.js';
import {
  addressesOf,
  appendResult,
  dnsFor,
  emptyResult,
  formatResult,
  parseResult,
  resultOf,
  type Result,
} from './result.js';
import { isSupported, latestVersion, supportedVersions } from './version.js';

/** What is printed and with which status the program ends. */
export interface CniAnswer {
  readonly exit: 0 | 1;
  readonly stdout: string;
}

/** Whoever made a call. */
export interface Caller {
  /** Whether it was killed or gave up: nobody will hear the answer. */
  isGone(): boolean;
}

export interface CniPluginOptions {
  readonly attacher: Attacher;
  readonly delegate: Delegate;
  readonly log: Logger;
  /** Does the deletions that were asked for while no agent was there, before any ADD; undefined: there are none. */
  readonly settle?: () => Promise<void> | undefined;
}

interface Operation {
  readonly config: NetConfig;
  readonly environment: Environment;
  readonly caller: Caller;
}

/** The CNI plugin's verbs. Calls for one container are worked on in order, others in parallel. */
export class CniPlugin {
  readonly #options: CniPluginOptions;
  readonly #queue = new KeyedQueue();

  constructor(options: CniPluginOptions) {
    this.#options = options;
  }

  /** Resolves when what is under way has ended. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  /** Answers a call; never rejects. */
  async call(call: CniCall, caller: Caller): Promise<CniAnswer> {
    let version: string = latestVersion;
    try {
      const environment = parseEnvironment(call.environment);
      if (environment.command === 'VERSION') return { exit: 0, stdout: versionText() };
      const parsed = parseDocument(call.stdin);
      const command = checkNames(environment);
      const said = fieldOf(parsed.document, 'cniVersion');
      if (typeof said === 'string' && isSupported(said)) version = said;
      const config = parseConfig(parsed, call.stdin, command);
      return { exit: 0, stdout: await this.#act(command, { config, environment, caller }) };
    } catch (thrown) {
      const error = toCniError(thrown);
      if (error.code === cniCode.internal) this.#options.log.error({ error: String(thrown) }, 'a CNI call failed');
      return { exit: 1, stdout: formatError(error, version) };
    }
  }

  async #act(command: Command, operation: Operation): Promise<string> {
    const { config, environment } = operation;
    const inOrder = <T>(work: () => Promise<T>): Promise<T> => this.#queue.run(environment.containerId, work);
    switch (command) {
      case 'ADD': {
        const settling = this.#options.settle?.();
        if (settling !== undefined) await settling;
        const result = await inOrder(() => (config.role === 'ipam' ? this.#reserve(operation) : this.#add(operation)));
        return `${JSON.stringify(formatResult(result, config.cniVersion), null, 4)}\n`;
      }
      case 'DEL':
        await inOrder(() => this.#del(operation));
        return '';
      case 'CHECK':
        await inOrder(() => this.#check(operation));
        return '';
      case 'GC':
        await this.#gc(operation);
        return '';
      case 'STATUS':
        await this.#status(operation);
        return '';
      case 'VERSION':
        return versionText();
    }
  }

  async #add(operation: Operation): Promise<Result> {
    const { config, environment, caller } = operation;
    const { document, cniVersion } = config;
    const previous = fieldOf(document, 'prevResult');
    const before = previous === undefined ? emptyResult : parseResult(previous, 'prevResult', cniVersion);
    const request = attachRequest(config, environment);
    assertWanted(caller);
    const given = config.delegate === null ? null : await this.#delegatedAddresses(operation, request.target);
    let attached: Attached | undefined;
    try {
      const addresses = given === null ? {} : { addresses: given.ips.map(({ address }) => withoutLength(address)) };
      attached = await this.#attach(config, (attacher) => attacher.attach({ ...request, ...addresses })).catch(
        (error: unknown) => {
          throw isUnsupported(error) ? unsupported(error, request) : error;
        },
      );
      assertWanted(caller);
      const own = resultOf(attached, environment.netns);
      const dns = dnsFor(document, given !== null && Object.keys(given.dns).length > 0 ? given.dns : own.dns);
      return appendResult(before, { ...own, dns });
    } catch (error) {
      await this.#takeBack(operation, {
        isAttached: attached?.isNew === true,
        isDelegated: given !== null && attached?.isNew !== false,
      });
      throw error;
    }
  }

  /** Addresses from another plugin; for an ADD repeated in the same sandbox those that it gave before. */
  async #delegatedAddresses(operation: Operation, target: string): Promise<Result> {
    const { config, environment } = operation;
    const known = await this.#options.attacher.find(keyOf(operation), target).catch(nothingUnknown);
    if (known?.isInTarget === true) return addressesOf(known);
    if (known !== null) await this.#options.delegate('DEL', config, environment);
    const text = await this.#options.delegate('ADD', config, environment);
    try {
      const result = parseResult(JSON.parse(text), 'ipam result', config.cniVersion);
      if (result.ips.length === 0) throw new CniError(cniCode.invalidConfig, 'IPAM plugin returned missing IP config');
      return result;
    } catch (error) {
      await this.#takeBack(operation, { isAttached: false, isDelegated: true });
      throw error;
    }
  }

  async #reserve(operation: Operation): Promise<Result> {
    const { config, environment, caller } = operation;
    assertWanted(caller);
    const request = reserveRequest(config, environment);
    const reserved = await this.#attach(config, (attacher) => attacher.reserve(request));
    if (caller.isGone()) {
      await this.#takeBack(operation, { isAttached: reserved.isNew, isDelegated: false });
      assertWanted(caller);
    }
    const own = addressesOf(reserved);
    const ipam = objectOf(config.document, 'ipam') ?? {};
    const { routes } = parseResult({ routes: fieldOf(ipam, 'routes') }, 'ipam', latestVersion);
    return { ...own, routes: routes.length > 0 ? routes : own.routes };
  }

  /** Attaches or reserves; a network that is missing is made where the configuration says how. */
  async #attach(config: NetConfig, make: (attacher: Attacher) => Promise<Attached>): Promise<Attached> {
    const { attacher } = this.#options;
    try {
      return await make(attacher);
    } catch (error) {
      if (!(error instanceof TsnetError) || error.code !== 'ERR_NETWORK_UNKNOWN') throw error;
      if (error.cause instanceof TsnetError && error.cause.retryable)
        throw new CniError(cniCode.tryAgainLater, error.message, error.cause.hint);
      if (config.create === null) {
        const how = `make it with \`tsnet create ${config.network}\`, or give "subnets", "driver" or "options" in the configuration`;
        throw new CniError(error.cni, error.message, how);
      }
    }
    await attacher.ensureNetwork(config.create);
    return make(attacher);
  }

  /** Undoes what a failed or abandoned ADD has made; its own errors are less telling than the first. */
  async #takeBack(
    operation: Operation,
    made: { readonly isAttached: boolean; readonly isDelegated: boolean },
  ): Promise<void> {
    const { attacher, delegate, log } = this.#options;
    const { config, environment } = operation;
    const undo = async (work: () => Promise<unknown>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        log.warn(
          { container: environment.containerId, error: toCniError(error).message },
          'could not take back all of an ADD',
        );
      }
    };
    if (made.isAttached) await undo(() => attacher.detach(keyOf(operation)));
    if (made.isDelegated) await undo(() => delegate('DEL', config, environment));
  }

  async #del(operation: Operation): Promise<void> {
    const { config, environment } = operation;
    await this.#options.attacher.detach(keyOf(operation));
    if (config.delegate !== null) await this.#options.delegate('DEL', config, environment);
  }

  async #check(operation: Operation): Promise<void> {
    const { config, environment } = operation;
    const { attacher, delegate } = this.#options;
    const target = `netns:${environment.netns}`;
    const found = await attacher.find(keyOf(operation), target);
    const what = `container ${environment.containerId}, interface ${environment.ifname}, network ${config.network}`;
    if (found === null) throw broken(`there is no attachment of ${what}`);
    if (config.role === 'ipam') return;
    const previous = fieldOf(config.document, 'prevResult');
    if (previous === undefined) throw new CniError(cniCode.invalidConfig, 'Required prevResult missing');
    const result = parseResult(previous, 'prevResult', config.cniVersion);
    if (!found.isInTarget) throw broken(`the attachment of ${what} is in another sandbox than ${environment.netns}`);
    const hostLinks = result.interfaces.filter(({ sandbox }) => sandbox === undefined).map(({ name }) => name);
    checkState(result, environment, await attacher.inspect({ target, ifname: environment.ifname, hostLinks }));
    if (config.delegate !== null) await delegate('CHECK', config, environment);
  }

  /** Goes on past errors and reports them together. */
  async #gc({ config, environment }: Operation): Promise<void> {
    const { attacher, delegate } = this.#options;
    const valid = validAttachments(config);
    const failures: string[] = [];
    const collect = async (work: Promise<unknown>): Promise<void> => {
      await work.catch((error: unknown) => failures.push(toCniError(error).message));
    };
    const listed = await attacher.list(configLabels(config));
    const stale = listed.filter(({ key, isSandboxAlive }) => !isSandboxAlive && !valid.has(`${key.id} ${key.ifname}`));
    await Promise.all(stale.map(({ key }) => collect(this.#queue.run(key.id, () => attacher.detach(key)))));
    if (config.delegate !== null) await collect(delegate('GC', config, environment));
    if (failures.length > 0) throw new CniError(cniCode.tryAgainLater, 'GC left something behind', failures.join('; '));
  }

  async #status({ config, environment }: Operation): Promise<void> {
    const { attacher, delegate } = this.#options;
    const readiness = await attacher.readiness(config.network);
    const canCreate = config.create !== null && !readiness.isReady && !readiness.isImpaired;
    if (!readiness.isReady && !canCreate) {
      const code = readiness.isImpaired ? cniCode.limited : cniCode.notAvailable;
      throw new CniError(code, `tsnet cannot attach to network ${config.network}`, readiness.reason);
    }
    if (config.delegate !== null) await delegate('STATUS', config, environment);
  }
}

function keyOf({ config, environment }: Operation): { network: string; id: string; ifname: string } {
  return { network: config.network, id: environment.containerId, ifname: environment.ifname };
}

function assertWanted(caller: Caller): void {
  if (caller.isGone()) throw new CniError(cniCode.tryAgainLater, 'the caller has gone away');
}

function withoutLength(address: string): string {
  return address.replace(/\/\d{1,3}$/, '');
}

function nothingUnknown(error: unknown): null {
  if (error instanceof TsnetError && error.code === 'ERR_NETWORK_UNKNOWN') return null;
  throw error;
}

/** Missing and null mean that none is valid. Older runtimes write the key without `valid-`. */
function validAttachments(config: NetConfig): ReadonlySet<string> {
  const { document } = config;
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find(
    (name) => fieldOf(document, name) !== undefined,
  );
  const list = key === undefined ? [] : (listOf(document, key) ?? []);
  return new Set(
    list.map((each) => {
      if (!isObject(each)) throw new CniError(cniCode.invalidConfig, `${key ?? ''}: a member is not an object`);
      return `${filledOf(each, 'containerID') ?? ''} ${filledOf(each, 'ifname') ?? ''}`;
    }),
  );
}

function versionText(): string {
  return `${JSON.stringify({ cniVersion: latestVersion, supportedVersions })}\n`;
}

function isUnsupported(error: unknown): error is TsnetError {
  return error instanceof TsnetError && error.code === 'ERR_DRIVER_UNSUPPORTED';
}

/** A driver cannot do all that a runtime may ask for: the specification wants key and value named. */
function unsupported(error: TsnetError, { ports, bandwidth }: AttacherRequest): CniError {
  const asked = {
    ...(ports === undefined ? {} : { portMappings: ports }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
  };
  return new CniError(cniCode.unsupportedField, `runtimeConfig ${JSON.stringify(asked)}: ${error.message}`, error.hint);
}
