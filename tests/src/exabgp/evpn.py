"""ExaBGP 4.2 with words for EVPN routes and route target memberships in its API.

It has classes for them, which it decodes with, but neither its configuration nor its API can announce
one, and its configuration has no name for the family of memberships: here that is `ipv4 rtc`. The
commands, all of whose words but the first two come in pairs:

    announce evpn mac M rd A:N vni V target A:N next-hop A [ip A]
    announce evpn multicast A rd A:N vni V target A:N next-hop A
    announce membership origin N target A:N next-hop A
    withdraw ...                                      as it was announced

The first argument is the path of the program that this takes the place of.
"""

import sys

from exabgp.application.bgp import main
from exabgp.bgp.message import OUT
from exabgp.bgp.message.update.attribute import Attributes, NextHop, Origin
from exabgp.bgp.message.update.attribute.community.extended import Encapsulation
from exabgp.bgp.message.update.attribute.community.extended.communities import ExtendedCommunities
from exabgp.bgp.message.update.attribute.community.extended.rt import RouteTargetASN2Number
from exabgp.bgp.message.update.attribute.pmsi import PMSIIngressReplication
from exabgp.bgp.message.update.nlri.evpn.mac import MAC as MacRoute
from exabgp.bgp.message.update.nlri.evpn.multicast import Multicast
from exabgp.bgp.message.open.asn import ASN
from exabgp.bgp.message.update.nlri.qualifier import ESI, EthernetTag, Labels, MAC, RouteDistinguisher
from exabgp.bgp.message.update.nlri.rtc import RTC
from exabgp.configuration.neighbor.family import ParseFamily
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import IP
from exabgp.reactor.api.command import Command
from exabgp.rib.change import Change


def route_distinguisher(text):
    address, number = text.split(':')
    return RouteDistinguisher.fromElements(address, int(number))


def route_target(text):
    asn, number = text.split(':')
    return RouteTargetASN2Number(int(asn), int(number))


def membership(words, action):
    pairs = dict(zip(words[0::2], words[1::2]))
    attributes = Attributes()
    attributes.add(Origin(Origin.IGP))
    origin, target = ASN(int(pairs['origin'])), route_target(pairs['target'])
    nlri = RTC.new(AFI.ipv4, SAFI.rtc, origin, target, NextHop(pairs['next-hop']), action)
    return Change(nlri, attributes)


def evpn(words, action):
    pairs = dict(zip(words[0::2], words[1::2]))
    vni, rd = int(pairs['vni']), route_distinguisher(pairs['rd'])
    attributes = Attributes()
    attributes.add(Origin(Origin.IGP))
    communities = ExtendedCommunities()
    communities.add(route_target(pairs['target']))
    communities.add(Encapsulation(Encapsulation.Type.VXLAN))
    attributes.add(communities)
    if 'mac' in pairs:
        ip = IP.create(pairs['ip']) if 'ip' in pairs else None
        # A VNI takes all 24 bits of the label (RFC 8365, section 5.1.3).
        labels = Labels([], raw_labels=[vni])
        nlri = MacRoute(rd, ESI(), EthernetTag(0), MAC(pairs['mac']), 48, labels, ip, action=action)
    else:
        nlri = Multicast(rd, EthernetTag(0), IP.create(pairs['multicast']), action=action)
        attributes.add(PMSIIngressReplication(pairs['next-hop'], raw_label=vni))
    nlri.nexthop = NextHop(pairs['next-hop'])
    nlri.action = action
    return Change(nlri, attributes)


def register(verb, action, what, change):
    @Command.register('text', verb + ' ' + what)
    def command(self, reactor, service, line):
        reactor.configuration.inject_change(list(reactor.peers(service)), change(line.split()[2:], action))
        reactor.processes.answer_done(service)
        return True


for what, change in (('evpn', evpn), ('membership', membership)):
    register('announce', OUT.ANNOUNCE, what, change)
    register('withdraw', OUT.WITHDRAW, what, change)
ParseFamily.convert['ipv4']['rtc'] = (AFI.ipv4, SAFI.rtc)
# It reports routes by this method, which memberships lack.
RTC.json = lambda self, compact=None: '{ "membership": "%s" }' % self
# It looks for its files beside itself.
sys.argv = sys.argv[1:]
sys.exit(main())
