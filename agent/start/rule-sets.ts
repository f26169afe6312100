import { originTableName } from '../../core/nft/origin.js';
import { policyTableName } from '../../core/policy/compile.js';
import { serviceTableName } from '../../core/service/table.js';
import { NftAccess } from '../firewall/nft-access.js';
import { RuleSet } from '../firewall/rule-set.js';
import type { AgentHost } from './host.js';

/** The tables of this host, each a rule set of its own: a change of one rewrites nothing of another. */
export interface RuleSets {
  /** Ports, the way out, isolation: the table `tsnet`. */
  readonly main: RuleSet;
  /** What holds endpoints to their own addresses. */
  readonly origins: RuleSet;
  readonly policies: RuleSet;
  readonly services: RuleSet;
  /** Begins to write: all that the run before had in the tables has been asked for again. */
  release(): void;
}

/** Opens nftables. Nothing is written before `release`. Errors: ERR_KERNEL. */
export async function openRuleSets({ native, log, closers }: AgentHost): Promise<RuleSets> {
  const access = await NftAccess.open(native);
  closers.push(() => access.close());
  const newRuleSet = (table: { table?: string; family?: 'bridge' }): RuleSet => {
    const ruleSet = new RuleSet({ access, log, held: true, ...table });
    closers.push(() => ruleSet.close());
    return ruleSet;
  };
  const main = newRuleSet({});
  const origins = newRuleSet({ family: 'bridge', table: originTableName });
  const policies = newRuleSet({ table: policyTableName });
  const services = newRuleSet({ table: serviceTableName });
  return {
    main,
    origins,
    policies,
    services,
    release: () => {
      for (const each of [main, origins, policies, services]) each.release();
    },
  };
}
