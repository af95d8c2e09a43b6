#!/usr/bin/perl
# Proxmox VE hook script for vtep, an example: copy it to a snippets storage and set it with
#     qm set VMID --hookscript local:snippets/vtep.pl
# It reads which bridge domain each interface belongs to from /etc/vtep/pve/VMID, a line each:
#     net0 blue 02:00:00:00:00:01 10.0.0.1 fd00::1
# The interface must not be in a bridge: give net0 a bridge without ports and let the hook take the
# tap out of it.

use strict;
use warnings;

my ($vmid, $phase) = @ARGV;
exit 0 unless $phase eq 'post-start' || $phase eq 'post-stop';
die "not a VM number: $vmid\n" unless $vmid =~ /^\d+$/;

open(my $file, '<', "/etc/vtep/pve/$vmid") or exit 0;
while (my $line = <$file>) {
    next if $line =~ /^\s*(#|$)/;
    my ($net, $bd, $mac, @ips) = split ' ', $line;
    my ($index) = $net =~ /^net(\d+)$/ or next;
    my $tap = "tap${vmid}i$index";
    if ($phase eq 'post-start') {
        system('ip', 'link', 'set', $tap, 'nomaster');
        system('vtep-agent', 'port', 'add', $tap, '--bd', $bd, '--mac', $mac,
            map { ('--ip', $_) } @ips) == 0 or warn "port $tap is not declared\n";
    } else {
        system('vtep-agent', 'port', 'del', $tap) == 0 or warn "port $tap stays\n";
    }
}
exit 0;
