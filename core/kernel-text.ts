import { floodMac, tsnetProtocol, type KernelObject } from './kernel.js';

/**
 * Writes an object as the command that would make it: for logs, and for people who compare.
 *
 * Equivalent to: itself; links also get the alias named at the end (`ip link set dev NAME alias TEXT`).
 */
export function formatObject(object: KernelObject): string {
  switch (object.kind) {
    case 'bridge':
      return (
        `ip link add dev ${object.name} address ${object.mac} mtu ${object.mtu} up type bridge ` +
        `forward_delay 0 stp_state 0 mcast_snooping 0 # alias ${object.alias}`
      );
    case 'vxlan':
      return (
        `ip link add dev ${object.name} address ${object.mac} mtu ${object.mtu} master ${object.master} up type vxlan ` +
        `id ${object.vni} local ${object.local} dstport ${object.port} nolearning # alias ${object.alias}`
      );
    case 'macvlan':
      return (
        `ip link add dev ${object.name} link ${object.parent} address ${object.mac} mtu ${object.mtu} up type macvlan ` +
        `mode ${object.mode} # alias ${object.alias}`
      );
    case 'port':
      return (
        `ip link set dev ${object.link} master ${object.master} type bridge_slave ` +
        `learning ${onOff(object.learning)} neigh_suppress ${onOff(object.neighSuppress)}${object.hairpin === true ? ' hairpin on' : ''}`
      );
    case 'addr':
      return (
        `ip addr replace ${object.address} dev ${object.link} noprefixroute` +
        `${object.address.includes(':') ? ' nodad' : ''}${object.deprecated ? ' preferred_lft 0' : ''} proto ${tsnetProtocol}`
      );
    case 'route': {
      const source = object.source === null ? '' : ` src ${object.source}`;
      return `ip route replace ${object.dst} dev ${object.link}${source} proto ${tsnetProtocol}`;
    }
    case 'neigh':
      return (
        `ip neigh replace ${object.address} lladdr ${object.mac} dev ${object.link} nud permanent ` +
        `protocol ${tsnetProtocol}`
      );
    case 'fdb-port':
      return `bridge fdb replace ${object.mac} dev ${object.link} master static`;
    case 'fdb-vtep':
      return `bridge fdb ${object.mac === floodMac ? 'append' : 'replace'} ${object.mac} dev ${object.link} dst ${object.vtep} self permanent`;
  }
}

function onOff(value: boolean): string {
  return value ? 'on' : 'off';
}
